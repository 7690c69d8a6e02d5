"""Fair comparison: what a study measured, what that shows, and how it is reported."""
