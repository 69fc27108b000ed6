"""PUBLISH: one runnable module for each lesson; `python -m publishers` is the tour through all of them."""
