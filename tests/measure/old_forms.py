"""Networks written by hand, of layers that an old version of Keras has; see old_networks.py.

Each function takes an `old_networks.Builder` and returns a model of images. What a version does
not have raises an error there, and is left out.
"""

import numpy as np


def shared_layers(b):
    """Return a model that calls layers twice."""
    start = x = b.begin()
    conv, norm = b.layers.Conv2D(3, 3, padding="same"), b.layers.BatchNormalization()
    x = norm(conv(x))
    return b.finish(start, b.layers.Concatenate()([x, norm(conv(x))]))


def nested_twice(b):
    """Return a model that calls another one twice, and a Sequential within that."""
    start = b.begin()
    inner = b.layers.Input(shape=b.version.shape(start))
    part = b.keras.models.Sequential([b.layers.Conv2D(3, 3, padding="same"), b.layers.ReLU()])
    model = b.version.model(inner, b.layers.Add()([inner, part(inner)]))
    return b.finish(start, model(b.layers.Activation("tanh")(model(start))))


def frozen_nested(b):
    """Return a model with a frozen one in it, which has a frozen layer."""
    start = b.begin()
    inner = b.layers.Input(shape=b.version.shape(start))
    x = b.layers.BatchNormalization()(b.layers.Conv2D(3, 3, trainable=False)(inner))
    model = b.version.model(inner, b.layers.Conv2D(2, 1)(x))
    model.trainable = False
    return b.finish(start, b.layers.BatchNormalization()(model(start)))


def time_distributed(b):
    """Return a model of parts of the image: convolutions, a model and a pooling of each."""
    start = b.layers.Input(shape=(8, 8, 3))
    x = b.layers.Reshape((2, 4, 8, 3))(start)
    x = b.layers.TimeDistributed(b.layers.Conv2D(3, 3, activation="relu"))(x)
    inner = b.layers.Input(shape=(2, 6, 3))
    model = b.version.model(inner, b.layers.Dense(2)(b.layers.Flatten()(inner)))
    x = b.layers.TimeDistributed(model)(x)
    return b.finish(start, b.layers.LSTM(3)(x))


def bidirectional(b):
    """Return a model of recurrent layers both ways."""
    start, x = b.rows()
    lstm = b.layers.LSTM(3, return_sequences=True, go_backwards=True)
    x = b.layers.Bidirectional(lstm, merge_mode=b.r.choice(["concat", "sum", "mul", "ave"]))(x)
    gru = b.layers.GRU(3, return_sequences=b.r.random() < 0.5)
    return b.finish(start, b.layers.Bidirectional(gru, merge_mode="concat")(x))


def recurrent_variants(b):
    """Return a model of recurrent layers with other arguments than usual."""
    start, x = b.rows()
    more = {"implementation": b.r.choice([1, 2]), "recurrent_dropout": 0.2, "dropout": 0.1}
    x = b.layers.LSTM(3, activation="relu", recurrent_activation="sigmoid", unroll=True)(
        b.layers.GRU(4, return_sequences=True, use_bias=False, **more)(x)
    )
    return b.finish(start, x)


def gru_reset_before(b):
    """Return a model of a GRU of each reset_after."""
    start, x = b.rows()
    x = b.layers.GRU(3, reset_after=True, return_sequences=True)(x)
    return b.finish(start, b.layers.GRU(3, reset_after=False, recurrent_activation="sigmoid")(x))


def cells(b):
    """Return a model of an RNN of a cell."""
    start, x = b.rows()
    x = b.layers.RNN(b.layers.LSTMCell(3), return_sequences=True)(x)
    return b.finish(start, b.layers.RNN(b.layers.GRUCell(2))(x))


def conv_lstm(b):
    """Return a model of a ConvLSTM2D over parts of the image."""
    start = b.layers.Input(shape=(8, 8, 3))
    x = b.layers.Reshape((2, 4, 8, 3))(start)
    return b.finish(start, b.layers.ConvLSTM2D(3, 3, padding="same")(x))


def transposed(b):
    """Return a model of transposed convolutions with all that they take."""
    start, x = b.images(3)
    x = b.layers.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1)(x)
    x = b.layers.Conv2DTranspose(2, (3, 2), strides=(1, 2), padding="valid")(x)
    return b.finish(start, b.layers.MaxPooling2D(2)(x))


def transposed_dilated(b):
    """Return a model of a dilated transposed convolution."""
    start, x = b.images(3)
    return b.finish(start, b.layers.Conv2DTranspose(3, 3, dilation_rate=2)(x))


def separable(b):
    """Return a model of separable convolutions with all that they take."""
    start, x = b.images(3)
    x = b.layers.SeparableConv2D(4, 3, depth_multiplier=2, dilation_rate=2, padding="same")(x)
    x = b.layers.SeparableConv2D(3, (3, 2), strides=(2, 2), use_bias=False)(x)
    return b.finish(start, b.layers.Activation("relu")(x))


def separable_line(b):
    """Return a model of separable convolutions of lines."""
    start, x = b.rows()
    return b.finish(start, b.layers.SeparableConv1D(4, 3, padding="causal", dilation_rate=2)(x))


def causal(b):
    """Return a model of causal dilated convolutions of lines."""
    start, x = b.rows()
    x = b.layers.Conv1D(4, 2, padding="causal", dilation_rate=2)(x)
    return b.finish(start, b.layers.MaxPooling1D(2)(x))


def grouped(b):
    """Return a model of convolutions of groups of channels."""
    start, x = b.images(4)
    return b.finish(start, b.layers.Conv2D(6, 3, groups=2, strides=2, padding="same")(x))


def depthwise(b):
    """Return a model of depthwise convolutions."""
    start, x = b.images(4)
    x = b.layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu")(x)
    return b.finish(start, b.layers.DepthwiseConv2D(2, depth_multiplier=3, use_bias=False)(x))


def volumes(b):
    """Return a model of layers of volumes."""
    start = b.layers.Input(shape=(8, 8, 3))
    x = b.layers.Conv3D(3, 2)(b.layers.Reshape((4, 4, 4, 3))(start))
    x = b.layers.ZeroPadding3D(1)(b.layers.UpSampling3D(2)(x))
    return b.finish(start, b.layers.AveragePooling3D(2)(b.layers.Cropping3D(1)(x)))


def own_training_code(b):
    """Return a model with initializers, regularizers and constraints of one's own, compiled so."""
    bases = (b.keras.initializers.Initializer, b.keras.regularizers.Regularizer)
    config = {"get_config": lambda self: {}}
    make = dict(config, __call__=lambda self, shape, dtype=None, **_: np.ones(shape, "float32"))
    starts = type("OnesOfMine", (bases[0],), make)()
    loss = dict(config, __call__=lambda self, x: 0.0 * b.K.sum(x))
    penalty = type("PenaltyOfMine", (bases[1],), loss)() if b.version.generation < 3 else None
    limit = dict(config, __call__=lambda self, w: w)
    limit = type("LimitOfMine", (b.keras.constraints.Constraint,), limit)()
    start = b.begin()
    more = {"kernel_regularizer": penalty, "kernel_constraint": limit}
    x = b.layers.Conv2D(3, 3, bias_initializer=starts, **more)(start)
    return b.finish(start, x)


def own_compile(b):
    """Return a model compiled with a loss, a metric and an optimizer of one's own."""
    start, x = b.images(3)
    model = b.finish(start, x)

    def loss_of_mine(y_true, y_pred):
        return (y_true - y_pred) ** 2

    def metric_of_mine(y_true, y_pred):
        return (y_true - y_pred) ** 2

    own = type("SGDOfMine", (b.keras.optimizers.SGD,), {})
    optimizer = own(0.1) if b.version.generation < 3 else own(learning_rate=0.1)
    model.compile(optimizer=optimizer, loss=loss_of_mine, metrics=[metric_of_mine, "accuracy"])
    return model


def trained_with_weights(b):
    """Return a model that was trained a step with weights of the samples."""
    start, x = b.images(3)
    model = b.finish(start, x)
    model.compile(optimizer="adam", loss="mse")
    x = np.zeros((2,) + tuple(model.input_shape[1:]), "float32")
    model.train_on_batch(x, np.ones((2, 3), "float32"), sample_weight=np.array([1.0, 0.5]))
    return model


def sequential(b):
    """Return a Sequential model whose first layer tells the shape of the input."""
    layers = b.layers
    first = layers.Conv2D(3, 3, input_shape=(9, 11, 3))
    more = [layers.MaxPooling2D(), layers.Dropout(0.3), layers.Flatten()]
    return b.keras.models.Sequential([first, *more, layers.Dense(3, activation="softmax")])


def sequential_with_input(b):
    """Return a Sequential model that begins with an InputLayer."""
    layers = b.layers
    start = layers.Input(shape=(9, 11, 3))
    if b.version.generation < 3:
        start = layers.InputLayer((9, 11, 3))
    return b.keras.models.Sequential([start, layers.Flatten(), layers.Dense(3)])


def sequential_built_late(b):
    """Return a Sequential model that learned the shape of its input from chips."""
    layers = b.layers
    more = [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    model = b.keras.models.Sequential(more)
    model.predict(np.zeros((2, 9, 11, 3), "float32"))
    return model


def any_size(b):
    """Return a model of images of any size."""
    start = b.layers.Input(shape=(None, None, 3))
    x = b.layers.UpSampling2D(2)(b.layers.Conv2D(4, 3, strides=2, padding="same")(start))
    return b.finish(start, b.layers.GlobalAveragePooling2D()(x))


def many_inputs_merged(b):
    """Return a model that adds, multiplies and averages three branches."""
    start = b.begin()
    parts = [b.layers.Conv2D(3, size, padding="same")(start) for size in (1, 2, 3)]
    total = b.layers.Add()(parts)
    x = b.layers.Concatenate(axis=-1)([b.layers.Average()(parts), total])
    return b.finish(start, b.layers.Concatenate(axis=1)([x, x]))


def dotted(b):
    """Return a model of the Dot of two vectors."""
    start = b.begin()
    parts = [b.layers.GlobalAveragePooling2D()(b.layers.Conv2D(4, k)(start)) for k in (1, 3)]
    return b.finish(start, b.layers.Dot(axes=1, normalize=b.r.random() < 0.5)(parts))


def normalizations(b):
    """Return a model of normalizations over other axes than usual."""
    start = b.begin()
    x = b.layers.BatchNormalization(axis=1)(start)
    x = b.layers.BatchNormalization(axis=-1, center=False, epsilon=0.1)(x)
    x = (
        b.layers.LayerNormalization(axis=[1, 2])(x)
        if hasattr(b.layers, "LayerNormalization")
        else x
    )
    return b.finish(start, x)


def group_normalization(b):
    """Return a model of group and unit normalizations."""
    start, x = b.images(4)
    x = b.layers.GroupNormalization(groups=2)(x)
    return b.finish(start, b.layers.UnitNormalization()(x))


def activations(b):
    """Return a model of activations with arguments, as layers and as functions."""
    start, x = b.images(4)
    x = b.layers.Activation(b.keras.activations.relu)(b.layers.LeakyReLU(0.2)(x))
    x = b.layers.PReLU(shared_axes=[1, 2])(b.layers.ELU(0.5)(x))
    if hasattr(b.layers, "ReLU"):
        x = b.layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2)(x)
    return b.finish(start, x)


def softmax_of_rows(b):
    """Return a model of a softmax over rows."""
    start, x = b.images(4)
    return b.finish(start, b.layers.Softmax(axis=1)(x))


def activation_layer(b):
    """Return a model whose layer has another one as its activation."""
    start = b.begin()
    return b.finish(start, b.layers.Conv2D(3, 3, activation=b.layers.LeakyReLU(0.2))(start))


def idle(b):
    """Return a model of layers that act in training alone."""
    start = x = b.begin()
    x = b.layers.GaussianDropout(0.2)(b.layers.GaussianNoise(0.3)(x))
    x = b.layers.AlphaDropout(0.1)(b.layers.SpatialDropout2D(0.2)(x))
    return b.finish(start, b.layers.ActivityRegularization(0.1)(x))


def preprocessing(b):
    """Return a model with the preprocessing layers of its time."""
    layers = b.layers
    if not hasattr(layers, "Rescaling") and b.version.generation < 3:
        layers = layers.experimental.preprocessing
    start = x = b.begin()
    x = layers.RandomFlip("horizontal")(layers.Rescaling(1 / 2.0, offset=-0.5)(x))
    x = layers.RandomZoom(0.1)(layers.RandomRotation(0.1)(x))
    x = layers.CenterCrop(7, 6)(x)
    x = layers.Resizing(9, 8, interpolation=b.r.choice(["bilinear", "nearest", "bicubic"]))(x)
    return b.finish(start, x)


def adapted(b):
    """Return a model with an adapted Normalization."""
    layers = b.layers
    if not hasattr(layers, "Normalization"):
        layers = layers.experimental.preprocessing
    start, layer = b.begin(), layers.Normalization()
    layer.adapt(np.random.RandomState(b.r.randint(0, 99)).normal(1, 3, (4, 8, 8, 3)))
    return b.finish(start, layer(start))


def attention(b):
    """Return a model of attention."""
    start, x = b.rows()
    y = b.layers.Dense(b.version.shape(x)[-1])(x)
    x = b.layers.Attention(use_scale=b.r.random() < 0.5)([x, y])
    return b.finish(start, b.layers.AdditiveAttention()([x, y]))


def attention_of_heads(b):
    """Return a model of attention of several heads over places."""
    start, x = b.images(4)
    x = b.layers.MultiHeadAttention(2, 3, value_dim=2, attention_axes=(1, 2))(x, x)
    return b.finish(start, x)


def einsum_dense(b):
    """Return a model of an EinsumDense."""
    layers = b.layers
    if not hasattr(layers, "EinsumDense"):
        layers = layers.experimental
    start, x = b.images(4)
    y = layers.EinsumDense("abcd,de->abce", (None, None, 5), bias_axes="e", activation="relu")(x)
    return b.finish(start, y)


def local(b):
    """Return a model of locally connected layers."""
    start = b.layers.Input(shape=(8, 7, 3))
    x = b.layers.LocallyConnected2D(2, (3, 2), strides=(2, 1), activation="tanh")(start)
    return b.finish(start, x)


def without_training(b):
    """Return a model whose layers are called as at prediction."""
    start, x = b.images(3)
    x = b.layers.Dropout(0.3)(b.layers.BatchNormalization()(x, training=False), training=False)
    return b.finish(start, x)


def channels_first(b):
    """Return a model that takes the bands first."""
    b.K.set_image_data_format("channels_first")
    try:
        start = x = b.layers.Input(shape=(3, 9, 11))
        x = b.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = b.layers.BatchNormalization(axis=1)(b.layers.MaxPooling2D(2)(x))
        return b.finish(start, b.layers.UpSampling2D(2)(x))
    finally:
        b.K.set_image_data_format("channels_last")


def channels_first_without_convolution(b):
    """Return a model that takes the bands first, of layers that any processor computes."""
    first = {"data_format": "channels_first"}
    start = x = b.layers.Input(shape=(3, 9, 11))
    x = b.layers.ZeroPadding2D(1, **first)(b.layers.Cropping2D(((1, 0), (0, 2)), **first)(x))
    x = b.layers.BatchNormalization(axis=1)(b.layers.UpSampling2D(2, **first)(x))
    pooled = b.layers.GlobalMaxPooling2D(**first)(x)
    x = b.layers.Flatten(**first)(b.layers.Permute((1, 3, 2))(x))
    return b.finish(start, b.layers.Concatenate()([x, pooled]))


def odd_names(b):
    """Return a model with names of layers that need care."""
    start = b.layers.Input(shape=(8, 8, 3), name="the_image")
    x = b.layers.Conv2D(3, 3, name="block.1-conv_2")(start)
    x = b.layers.Conv2D(3, 3, name="conv2d_7")(b.layers.Conv2D(3, 3, name="conv2d")(x))
    return b.finish(start, x)


FORMS = {
    name: form
    for name, form in list(globals().items())
    if callable(form) and getattr(form, "__module__", None) == __name__
}


def half(name):
    """Return a form of another policy of types."""

    def form(b):
        mixed = b.keras.mixed_precision
        mixed = mixed if hasattr(mixed, "set_global_policy") else mixed.experimental
        choose = getattr(mixed, "set_global_policy", None) or mixed.set_policy
        choose(name)
        try:
            start, x = b.images(3)
            x = b.layers.BatchNormalization()(b.layers.MaxPooling2D(2)(x))
            return b.finish(
                start, b.layers.LSTM(3)(b.layers.TimeDistributed(b.layers.Flatten())(x))
            )
        finally:
            choose("float32")

    return form


def whole(apply, kind="uint8"):
    """Return a form of whole numbers, on which something is done before the first convolution."""

    def form(b):
        start = b.layers.Input(shape=(8, 9, 3), dtype=kind)
        return b.finish(start, apply(b, start))

    return form


def quantized(mode, rank=None):
    """Return a form of quantized layers, or of layers with a LoRA of their own."""

    def form(b):
        start = b.layers.Input(shape=(8, 9, 3))
        x = b.layers.Dense(6, activation="relu")(start)
        model = b.finish(start, x)
        for layer in model.layers:
            if rank and isinstance(layer, b.layers.Dense):
                layer.enable_lora(rank)
        if mode:
            model.quantize(mode)
        return model

    return form


def masked(b):
    """Return a model with a mask."""
    start, x = b.rows()
    return b.finish(start, b.layers.LSTM(3)(b.layers.Masking(0.0)(b.layers.ReLU()(x))))


def stateful(b):
    """Return a model with a state."""
    start = b.layers.Input(batch_shape=(4, 8, 9, 3))
    x = b.layers.LSTM(3, stateful=True)(b.layers.Reshape((8, 27))(start))
    return b.finish(start, x)


# What may be refused, but never silently computed otherwise.
SPECIAL = {
    "mixed_float16": half("mixed_float16"),
    "mixed_bfloat16": half("mixed_bfloat16"),
    "float16": half("float16"),
    "float64": half("float64"),
    "masked": masked,
    "stateful": stateful,
    "int8": quantized("int8"),
    "float8": quantized("float8"),
    "lora": quantized(None, 2),
    "lora int8": quantized("int8", 2),
    "uint8 Conv2D": whole(lambda b, x: b.layers.Conv2D(3, 3)(x)),
    "uint8 Rescaling": whole(lambda b, x: b.layers.Rescaling(1 / 255.0)(x)),
    "uint8 Flatten": whole(lambda b, x: b.layers.Flatten()(x)),
    "uint8 Add": whole(lambda b, x: b.layers.Add()([x, x])),
    "uint8 Average": whole(lambda b, x: b.layers.Average()([x, x])),
    "uint8 Multiply": whole(lambda b, x: b.layers.Multiply()([x, x])),
    "uint8 Subtract": whole(lambda b, x: b.layers.Subtract()([x, b.layers.MaxPooling2D(1)(x)])),
    "uint8 Maximum": whole(lambda b, x: b.layers.Maximum()([x, x])),
    "uint8 Concatenate": whole(lambda b, x: b.layers.Concatenate()([x, x])),
    "uint8 UpSampling2D": whole(lambda b, x: b.layers.UpSampling2D(2)(x)),
    "uint8 bilinear": whole(lambda b, x: b.layers.UpSampling2D(2, interpolation="bilinear")(x)),
    "uint8 mean": whole(lambda b, x: b.layers.GlobalAveragePooling2D()(x)),
    "uint8 AveragePooling2D": whole(lambda b, x: b.layers.AveragePooling2D(2)(x)),
    "uint8 BatchNormalization": whole(lambda b, x: b.layers.BatchNormalization()(x)),
    "uint8 Activation": whole(lambda b, x: b.layers.Activation("relu")(x)),
    "uint8 sum": whole(lambda b, x: x + x),
    "uint8 divided": whole(lambda b, x: x / 255),
    "uint8 ops.mean": whole(lambda b, x: b.keras.ops.mean(x, axis=1)),
    "uint8 ops.add": whole(lambda b, x: b.keras.ops.add(x, 100)),
    "int32 Add": whole(lambda b, x: b.layers.Add()([x, x]), "int32"),
    "int32 divided": whole(lambda b, x: x / 255, "int32"),
}


def keras1_shared(b):
    """Return a model of Keras 1 that calls a layer three times."""
    start = b.begin()
    conv = b.layers.Convolution2D(3, 3, 3, border_mode="same")
    return b.finish(start, b.layers.merge([conv(start), conv(conv(start))], "concat"))


def keras1_nested_twice(b):
    """Return a model of Keras 1 that calls another one twice."""
    start = b.begin()
    inner = b.layers.Input(shape=b.version.shape(start))
    model = b.version.model(inner, b.layers.Convolution2D(3, 2, 2, border_mode="same")(inner))
    return b.finish(start, model(b.layers.Activation("tanh")(model(start))))


def keras1_bidirectional(b):
    """Return a model of Keras 1 of recurrent layers both ways."""
    start, x = b.rows()
    both = b.layers.Bidirectional(b.layers.LSTM(3, return_sequences=True), merge_mode="sum")
    return b.finish(start, b.layers.GRU(2, go_backwards=True)(both(x)))


def keras1_time_distributed(b):
    """Return a model of Keras 1 of convolutions of parts of the image."""
    start = b.layers.Input(shape=(8, 8, 3))
    x = b.layers.Reshape((2, 4, 8, 3))(start)
    x = b.layers.TimeDistributed(b.layers.Convolution2D(2, 3, 3))(x)
    x = b.layers.TimeDistributed(b.layers.Flatten())(x)
    return b.finish(start, b.layers.SimpleRNN(3)(x))


def keras1_sequential(b):
    """Return a Sequential model of Keras 1."""
    first = b.layers.Convolution2D(3, 3, 3, input_shape=(8, 8, 3))
    end = [b.layers.Flatten(), b.layers.Dropout(0.2), b.layers.Dense(3, activation="softmax")]
    return b.keras.models.Sequential([first, b.layers.MaxPooling2D(), *end])


def keras1_channels_first(b):
    """Return a model of Keras 1 that takes the bands first."""
    first = {"dim_ordering": "th"}
    start = b.layers.Input(shape=(3, 8, 9))
    x = b.layers.Convolution2D(4, 3, 3, activation="relu", **first)(start)
    x = b.layers.MaxPooling2D(**first)(b.layers.BatchNormalization(axis=1)(x))
    return b.finish(start, b.layers.UpSampling2D(**first)(x))


def keras1_trained(b):
    """Return a model of Keras 1 that was compiled with a loss of one's own."""
    model = keras1_sequential(b)

    def loss_of_mine(y_true, y_pred):
        return (y_true - y_pred) ** 2

    model.compile("sgd", loss_of_mine, metrics=["accuracy"])
    return model


KERAS1_FORMS = {name: form for name, form in list(globals().items()) if name.startswith("keras1_")}
