"""Code that needs no torch: image files, the metadata of model files, and prediction with ONNX files."""
