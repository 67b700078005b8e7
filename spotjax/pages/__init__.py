"""What people look at: reports, charts, figures and their pages."""
