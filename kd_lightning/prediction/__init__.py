"""Predict the classes of image files with any model file of a run; an ``.onnx`` does not load torch."""
