"""What can be done about a model that is refused: the ends of sentences.

To save a model again in the version that saved it changes nothing that depends on its layers. What
helps is to build it otherwise and to take the weights over: `load_weights` of every version reads
the files of `model.save`, and layers without weights may differ.
"""

CARRY_OVER = "load_weights from this file, and save that with model.save()"

# For custom code, and for layers that have no formula here.
STANDARD = f"build the model again with standard Keras layers in its place, {CARRY_OVER}"

# After what is to be changed.
CHANGED = f"build the model again that way, {CARRY_OVER}"

NOT_OF_KERAS = "Keras writes no such file; take it as model.save() wrote it, and copy it whole"

TWO_MODELS = (
    "layers and weights seem to be of two models, or of custom code; save both together, by "
    "model.save() in the program that trained the model"
)
