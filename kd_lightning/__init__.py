"""Knowledge distillation with PyTorch Lightning."""
