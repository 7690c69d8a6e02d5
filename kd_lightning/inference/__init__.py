"""What needs no torch: image files, what a model's file says, and prediction with ONNX files."""
