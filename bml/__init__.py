"""bml: tall exchange order-book rows into tensors, calibrated probabilistic models and honest reports."""

__version__ = "0.1.0"
