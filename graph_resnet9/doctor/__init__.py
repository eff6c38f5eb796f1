"""The doctor for anybody's TensorFlow 1 graph."""
