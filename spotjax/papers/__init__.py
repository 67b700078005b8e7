"""What the papers print, and how to compute it again."""
