"""LightningCLI over this project's tasks and data, and what surrounds a fit."""
