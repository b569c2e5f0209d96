"""Any Keras file as a function of images, whatever version and backend wrote it.

`open_model.open_model(path)` checks and understands a file without TensorFlow; `.build()` gives the
model as a function. Nothing here knows of chips, ports or tasks, and no code of a file is ever run.
"""
