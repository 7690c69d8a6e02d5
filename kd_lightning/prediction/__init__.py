"""Predict the classes of image files with any file that a run has written; with an ``.onnx``, torch is not loaded."""
