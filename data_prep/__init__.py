"""Raw face videos to flow features in TFRecord shards, with NumPy and OpenCV (no JAX)."""
