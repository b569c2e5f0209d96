"""A second look at a run: whether its settings can be right, by what the model and the chips tell.

It changes no answer. `look.SecondLook` is the wing's only door for the task.
"""
