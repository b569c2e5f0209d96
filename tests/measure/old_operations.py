"""Operations on the tensors of a model, as people wrote them; see old_networks.py.

Each is a function of a module and of images (N, rows, columns, 4). What a version does not have is
left out.
"""

import numpy as np

# Of the module tf.
TENSORFLOW = {
    "scaled": lambda tf, x: x / 127.5 - 1.0,
    "integer": lambda tf, x: 2 * x - 1,
    "reversed bands": lambda tf, x: x[..., ::-1],
    "crop": lambda tf, x: x[:, 1:-1, 2:],
    "strides": lambda tf, x: x[:, ::2, 1::3, :3],
    "one band": lambda tf, x: x[..., 1][..., None] * x,
    "split": lambda tf, x: tf.concat(tf.split(x, 2, axis=-1)[::-1], -1),
    "split sizes": lambda tf, x: tf.split(x, [1, 3], axis=-1)[1],
    "unstack": lambda tf, x: tf.stack(tf.unstack(x, axis=-1)[:3], axis=2),
    "resize": lambda tf, x: tf.image.resize(x, (9, 17)),
    "nearest": lambda tf, x: tf.image.resize(x, (5, 17), method="nearest"),
    "bicubic": lambda tf, x: tf.image.resize(x, (9, 5), method="bicubic"),
    "area": lambda tf, x: tf.image.resize(x, (4, 5), method="area"),
    "antialias": lambda tf, x: tf.image.resize(x, (4, 5), antialias=True),
    "pad": lambda tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "mirror": lambda tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], "REFLECT"),
    "pad with": lambda tf, x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], constant_values=3.0),
    "slice": lambda tf, x: tf.slice(x, [0, 1, 1, 0], [-1, 4, 5, 2]),
    "tile": lambda tf, x: tf.tile(x, [1, 1, 2, 1]),
    "matmul": lambda tf, x: tf.matmul(x, x, transpose_b=True),
    "abs and greater": lambda tf, x: tf.where(tf.greater(tf.abs(x), 0.5), x, 0.1 * x),
    "leaky": lambda tf, x: tf.nn.leaky_relu(x, 0.3),
    "identity": lambda tf, x: tf.identity(x) + tf.stop_gradient(x),
    "shape": lambda tf, x: tf.reshape(x, [-1, tf.shape(x)[1] * x.shape[2], 4]),
    "space to depth": lambda tf, x: tf.nn.space_to_depth(x[:, :8, :8], 2),
    "depth to space": lambda tf, x: tf.nn.depth_to_space(x, 2),
    "mean": lambda tf, x: x - tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    "max": lambda tf, x: tf.reduce_max(x, axis=-1),
    "reductions": lambda tf, x: tf.reduce_sum(x, 1) + tf.reduce_prod(x, 1) - tf.reduce_min(x, 1),
    "power": lambda tf, x: tf.pow(tf.abs(x) + 0.1, 0.7) + x**2,
    "roots": lambda tf, x: tf.sqrt(tf.abs(x)) + tf.math.rsqrt(tf.square(x) + 1.0),
    "clip": lambda tf, x: tf.clip_by_value(x, -0.2, 0.9),
    "exp": lambda tf, x: tf.exp(-x) + tf.math.log(tf.square(x) + 1.0) + tf.math.log1p(tf.abs(x)),
    "max pool": lambda tf, x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
    "average pool": lambda tf, x: tf.nn.avg_pool2d(x, 3, 1, "VALID"),
    "lrn": lambda tf, x: tf.nn.local_response_normalization(x, 2, alpha=0.1),
    "l2": lambda tf, x: tf.nn.l2_normalize(x, -1),
    "moments": lambda tf, x: tf.nn.moments(x, [1, 2], keepdims=True)[1] * x,
    "flips": lambda tf, x: tf.image.flip_left_right(x) - tf.image.flip_up_down(x),
    "gray": lambda tf, x: tf.image.rgb_to_grayscale(x[..., :3]),
    "standardized": lambda tf, x: tf.image.per_image_standardization(x),
    "conv": lambda tf, x: tf.nn.conv2d(x, np.ones((3, 3, 4, 2), "float32") / 9, 1, "SAME"),
    "blur": lambda tf, x: tf.nn.depthwise_conv2d(
        x, np.ones((3, 3, 4, 1), "float32") / 9, [1, 1, 1, 1], "SAME"
    ),
    "einsum": lambda tf, x: tf.einsum("nijc,njkc->nikc", x, x),
    "gather": lambda tf, x: tf.gather(x, [2, 1, 0], axis=-1),
    "reverse": lambda tf, x: tf.reverse(x, [1]),
    "cast": lambda tf, x: tf.cast(x > 0, tf.float32) * x,
    "activations": lambda tf, x: tf.nn.relu6(x) + tf.sigmoid(x) + tf.nn.elu(x) + tf.nn.selu(x),
    "softmax": lambda tf, x: tf.nn.softmax(x) + tf.nn.log_softmax(x) + tf.nn.softplus(x),
    "squeeze": lambda tf, x: tf.squeeze(tf.expand_dims(x, 1), [1]) + tf.transpose(x, [0, 1, 2, 3]),
    "bias": lambda tf, x: tf.nn.bias_add(x, [1.0, 2.0, 3.0, 4.0]),
    "floor": lambda tf, x: tf.floor(x * 3) + tf.math.ceil(x) + tf.round(x) + tf.sign(x),
    "logic": lambda tf, x: tf.cast(tf.logical_and(x > 0, tf.logical_not(x > 1)), "float32") + x,
    "differences": lambda tf, x: tf.math.squared_difference(x, 1.5) - tf.math.divide_no_nan(x, x),
    "sine": lambda tf, x: tf.sin(x) + tf.cos(x) + tf.math.erf(x) + tf.math.floormod(x, 2.0),
    "roll": lambda tf, x: tf.roll(x, 1, 1),
    "cumsum": lambda tf, x: tf.cumsum(x, 1),
    "repeat": lambda tf, x: tf.repeat(x, 2, axis=1),
}

# Of the module keras.ops.
KERAS_OPS = {
    "absolute": lambda o, x: o.absolute(x) + o.abs(x),
    "arithmetic": lambda o, x: (o.add(x, 1) * 2 - o.subtract(x, 0.5)) / o.multiply(3.0, 1.5),
    "operators": lambda o, x: (2 * x - 1) / 3 + x**2 - (-x) % 2.0 + x // 0.7,
    "arc": lambda o, x: o.arcsin(o.tanh(x)) + o.arccos(o.tanh(x)) + o.arctan(x) + o.arctan2(x, 2.0),
    "arc hyperbolic": lambda o, x: (
        o.arcsinh(x) + o.arccosh(o.abs(x) + 1) + o.arctanh(o.tanh(x) * 0.9)
    ),
    "hyperbolic": lambda o, x: o.sinh(x) + o.cosh(x) + o.tanh(x),
    "sine": lambda o, x: o.sin(x) + o.cos(x) + o.tan(x * 0.1),
    "rounding": lambda o, x: o.ceil(x) + o.floor(x) + o.round(x) + o.sign(x),
    "round decimals": lambda o, x: o.round(x, 1),
    "logarithms": lambda o, x: (
        o.log(o.abs(x) + 1) + o.log10(o.abs(x) + 1) + o.log1p(o.abs(x)) + o.log2(o.abs(x) + 1)
    ),
    "exponentials": lambda o, x: o.exp(x * 0.3) + o.expm1(x * 0.3) + o.logaddexp(x, 0.3),
    "erf": lambda o, x: o.erf(x),
    "divide no nan": lambda o, x: o.divide_no_nan(x, x - x),
    "floor divide": lambda o, x: o.floor_divide(x, 0.3) + o.mod(x, 0.7),
    "true divide": lambda o, x: o.true_divide(x, 3) + o.reciprocal(o.abs(x) + 1),
    "hypot": lambda o, x: o.hypot(x, 2.0 * x),
    "comparisons": lambda o, x: (
        x * o.cast(o.greater(x, 0.2), "float32")
        + o.cast(o.less_equal(x, 1.0), "float32")
        + o.cast(o.equal(x, x), "float32")
        + o.cast(o.not_equal(x, x), "float32")
    ),
    "finite": lambda o, x: (
        o.where(o.isfinite(x), x, 0.0)
        + o.cast(o.isnan(x), "float32")
        + o.cast(o.isinf(x), "float32")
    ),
    "logic": lambda o, x: (
        x
        * o.cast(
            o.logical_xor(o.logical_and(x > 0, x < 1), o.logical_not(o.logical_or(x > 2, x < -2))),
            "float32",
        )
    ),
    "all and any": lambda o, x: (
        o.cast(o.all(x > -1, axis=-1), "float32") + o.cast(o.any(x > 1, axis=-1), "float32")
    ),
    "where": lambda o, x: o.where(x > 0, x, 0.1 * x),
    "maximum": lambda o, x: o.maximum(x, 0.1) - o.minimum(x, 0.5),
    "clip": lambda o, x: o.clip(x, -0.2, 0.9),
    "power": lambda o, x: o.power(o.abs(x) + 0.1, 0.7) + o.square(x),
    "roots": lambda o, x: o.sqrt(o.abs(x)) + o.rsqrt(o.square(x) + 1),
    "activations": lambda o, x: (
        o.relu(x)
        + o.relu6(x)
        + o.selu(x)
        + o.elu(x)
        + o.sigmoid(x)
        + o.silu(x)
        + o.softplus(x)
        + o.softsign(x)
    ),
    "elu of 0.5": lambda o, x: o.elu(x, 0.5),
    "gelu": lambda o, x: o.gelu(x) + o.gelu(x, approximate=False),
    "leaky": lambda o, x: o.leaky_relu(x) + o.leaky_relu(x, 0.3),
    "hard sigmoid": lambda o, x: o.hard_sigmoid(x),
    "hard silu": lambda o, x: o.hard_silu(x),
    "log sigmoid": lambda o, x: o.log_sigmoid(x),
    "celu": lambda o, x: o.celu(x),
    "hard shrink": lambda o, x: o.hard_shrink(x) + o.soft_shrink(x) + o.tanh_shrink(x),
    "hard tanh": lambda o, x: o.hard_tanh(x),
    "squareplus": lambda o, x: o.squareplus(x),
    "softmax": lambda o, x: o.softmax(x) + o.log_softmax(x),
    "softmax of rows": lambda o, x: o.softmax(x, axis=1),
    "softmax of chip": lambda o, x: o.softmax(x, axis=(1, 2)),
    "sparse plus": lambda o, x: o.sparse_plus(x),
    "glu": lambda o, x: o.glu(x),
    "sparsemax": lambda o, x: o.sparsemax(x),
    "threshold": lambda o, x: o.threshold(x, 0.2, 0.1),
    "reductions": lambda o, x: (
        o.max(x, axis=1)
        + o.min(x, axis=1)
        + o.mean(x, axis=1)
        + o.sum(x, axis=1)
        + o.prod(x, axis=1)
    ),
    "amax": lambda o, x: o.amax(x, axis=-1) + o.amin(x, axis=-1),
    "statistics": lambda o, x: (
        (x - o.mean(x, axis=[1, 2], keepdims=True)) / (o.std(x, axis=[1, 2], keepdims=True) + 0.1)
    ),
    "var": lambda o, x: o.var(x, axis=(1, 2)),
    "logsumexp": lambda o, x: o.logsumexp(x, axis=-1),
    "moments": lambda o, x: o.moments(x, axes=[1, 2], keepdims=True)[1] * x,
    "count nonzero": lambda o, x: o.cast(o.count_nonzero(x > 0, axis=1), "float32"),
    "median": lambda o, x: o.median(x, axis=1),
    "quantile": lambda o, x: o.quantile(x, 0.5, axis=1),
    "average": lambda o, x: o.average(x, axis=1),
    "argmax": lambda o, x: o.cast(o.argmax(x, axis=-1), "float32"),
    "norm": lambda o, x: o.norm(x, axis=-1),
    "normalize": lambda o, x: o.normalize(x, axis=-1),
    "cumulative": lambda o, x: o.cumsum(x, axis=1) + o.cumprod(x, axis=1),
    "diff": lambda o, x: o.diff(x, axis=1),
    "bands": lambda o, x: x[..., ::-1],
    "crop": lambda o, x: x[:, 1:-1, 2:],
    "new axis": lambda o, x: x[..., 1][..., None] * x,
    "concatenate": lambda o, x: o.concatenate([x, o.relu(x)], axis=-1),
    "stack": lambda o, x: o.mean(o.stack([x, 2 * x], axis=1), axis=1),
    "hstack": lambda o, x: o.hstack([x, x]),
    "split": lambda o, x: o.concatenate(o.split(x, 2, axis=-1)[::-1], axis=-1),
    "split at": lambda o, x: o.split(x, [1], axis=-1)[1],
    "unstack": lambda o, x: o.stack(o.unstack(x, axis=-1)[:3], axis=-1),
    "expand and squeeze": lambda o, x: o.squeeze(o.expand_dims(x, 1), axis=1),
    "flip": lambda o, x: o.flip(x, axis=2) + o.flip(x, axis=(1, 2)),
    "roll": lambda o, x: o.roll(x, 2, axis=1),
    "rot90": lambda o, x: o.rot90(x[:, :8, :8], axes=(1, 2)),
    "repeat": lambda o, x: o.repeat(x, 2, axis=1),
    "tile": lambda o, x: o.tile(x, [1, 1, 2, 1]),
    "reshape": lambda o, x: o.reshape(x, (-1, x.shape[1] * x.shape[2], 4)),
    "reshape to chips": lambda o, x: o.reshape(x, (-1, int(np.prod(x.shape[1:])))),
    "transpose": lambda o, x: o.transpose(x, (0, 2, 1, 3)) * 1.0,
    "moveaxis": lambda o, x: o.moveaxis(x, 1, 2) + 0.0,
    "swapaxes": lambda o, x: o.swapaxes(x, 1, 3),
    "pad": lambda o, x: o.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "pad with": lambda o, x: o.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], constant_values=3.0),
    "pad mirrored": lambda o, x: o.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], mode="reflect"),
    "take": lambda o, x: o.take(x, [2, 0, -1], axis=-1),
    "take along": lambda o, x: o.take_along_axis(x, np.zeros((1, 1, 1, 4), "int32"), axis=1),
    "tril": lambda o, x: o.tril(o.transpose(x, (0, 3, 1, 2))) + o.triu(x[..., :1, :]).shape[-1],
    "triu": lambda o, x: o.triu(x),
    "matmul": lambda o, x: o.matmul(x, o.transpose(x, (0, 1, 3, 2))),
    "einsum": lambda o, x: o.einsum("nijc,njkc->nikc", x[:, :8, :8], x[:, :8, :8]),
    "dot": lambda o, x: o.dot(x, np.eye(4, dtype="float32")[:, ::-1] * 0.5),
    "tensordot": lambda o, x: o.tensordot(x, np.ones((4, 2), "float32"), axes=1),
    "matmul with constant": lambda o, x: o.matmul(x, np.ones((4, 2), "float32")),
    "resize": lambda o, x: o.image.resize(x, (9, 17)),
    "resize nearest": lambda o, x: o.image.resize(x, (5, 17), interpolation="nearest"),
    "resize bicubic": lambda o, x: o.image.resize(x, (9, 5), interpolation="bicubic"),
    "resize lanczos": lambda o, x: o.image.resize(x, (9, 5), interpolation="lanczos3"),
    "resize antialias": lambda o, x: o.image.resize(x, (4, 5), antialias=True),
    "gray": lambda o, x: o.image.rgb_to_grayscale(x[..., :3]),
    "hsv": lambda o, x: o.image.rgb_to_hsv(o.sigmoid(x[..., :3])),
    "crop images": lambda o, x: o.image.crop_images(x, 1, 1, target_height=4, target_width=5),
    "pad images": lambda o, x: o.image.pad_images(x, 1, 1, target_height=20, target_width=20),
    "max pool": lambda o, x: o.max_pool(x, 2),
    "average pool": lambda o, x: o.average_pool(x, 2, 1, padding="same"),
    "conv": lambda o, x: o.conv(x, np.ones((3, 3, 4, 2), "float32") / 9, padding="same"),
    "depthwise": lambda o, x: o.depthwise_conv(x, np.ones((3, 3, 4, 1), "float32") / 9),
    "depth to space": lambda o, x: o.depth_to_space(x, 2),
    "space to depth": lambda o, x: o.space_to_depth(x[:, :8, :8], 2),
    "batch norm": lambda o, x: o.batch_normalization(
        x, np.ones(4, "float32"), np.full(4, 2.0, "float32"), axis=-1
    ),
    "like": lambda o, x: o.ones_like(x) + o.zeros_like(x) + x,
    "copy": lambda o, x: o.copy(x) + o.stop_gradient(x) + o.convert_to_tensor(x),
    "cast": lambda o, x: o.cast(o.cast(x * 3, "int32"), "float32"),
    "negative": lambda o, x: o.negative(x) + o.conj(x),
    "nan to num": lambda o, x: o.nan_to_num(x),
    "linspace": lambda o, x: x * o.linspace(0.0, 1.0, 4),
    "cross": lambda o, x: o.cross(x[..., :3], x[..., 1:]),
    "outer": lambda o, x: o.multiply(x[..., :2], x[..., 2:]),
    "sort": lambda o, x: o.sort(x, axis=-1),
    "top k": lambda o, x: o.top_k(x, 2)[0],
    "one hot": lambda o, x: o.one_hot(o.argmax(x, axis=-1), 4),
    "digitize": lambda o, x: o.cast(o.digitize(x, [0.0, 1.0]), "float32"),
    "vectorize": lambda o, x: o.vectorized_map(lambda y: y * 2, x),
}

# What mixes the chips of a batch: of tf, of keras.ops, of layers, and as Lambda.
TENSORFLOW_MIXING = {
    "batch mean": lambda tf, x: x - tf.reduce_mean(x, axis=0, keepdims=True),
    "batch reversed": lambda tf, x: tf.reverse(x, [0]) + x,
    "first chip": lambda tf, x: x - x[:1],
    "every second": lambda tf, x: x + x[::-1],
    "greatest of all": lambda tf, x: x / (tf.reduce_max(x) + 1.0),
    "mean of all": lambda tf, x: x - tf.reduce_mean(x),
    "rolled": lambda tf, x: tf.roll(x, 1, 0),
    "cumsum": lambda tf, x: tf.cumsum(x, 0),
    "softmax": lambda tf, x: tf.nn.softmax(x, 0),
    "concat": lambda tf, x: tf.concat([x[1:], x[:1]], 0),
    "gather": lambda tf, x: tf.gather(x, [0, 0, 1, 1], axis=0),
    "transposed": lambda tf, x: tf.reshape(tf.transpose(x, [3, 1, 2, 0]), tf.shape(x)),
    "moments": lambda tf, x: x - tf.nn.moments(x, [0, 1, 2])[0],
    "l2": lambda tf, x: tf.nn.l2_normalize(x),
    "l2 of chips": lambda tf, x: tf.nn.l2_normalize(x, 0),
    "number of chips": lambda tf, x: x * tf.cast(tf.shape(x)[0], "float32"),
    "matmul": lambda tf, x: (
        tf.reshape(tf.matmul(x[:, 0, 0], x[:, 0, 0], transpose_b=True)[:, :1], [-1, 1, 1, 1]) * x
    ),
}
KERAS_OPS_MIXING = {
    "batch mean": lambda o, x: x - o.mean(x, axis=0, keepdims=True),
    "batch flipped": lambda o, x: o.flip(x, axis=0) + x,
    "first chip": lambda o, x: x - x[:1],
    "reversed": lambda o, x: x + x[::-1],
    "greatest of all": lambda o, x: x / (o.max(x) + 1.0),
    "mean of all": lambda o, x: x - o.mean(x),
    "rolled": lambda o, x: o.roll(x, 1, axis=0),
    "rolled flat": lambda o, x: o.roll(x, 1),
    "cumsum": lambda o, x: o.cumsum(x, axis=0),
    "softmax": lambda o, x: o.softmax(x, axis=0),
    "concatenate": lambda o, x: o.concatenate([x[1:], x[:1]], axis=0),
    "take": lambda o, x: o.take(x, [0, 0, 1, 1], axis=0),
    "moments": lambda o, x: x - o.moments(x, axes=[0, 1, 2])[0],
    "logsumexp": lambda o, x: x - o.logsumexp(x),
    "std": lambda o, x: x / (o.std(x, axis=0) + 1),
    "einsum": lambda o, x: o.einsum("nijc,mijc->nijc", x, x),
    "amax": lambda o, x: x - o.amax(x, axis=(0, 1)),
}

# As Lambda layers.
LAMBDAS = {
    "scaled": lambda x: x / 127.5 - 1.0,
    "with default": lambda x, scale=0.5, mode="tf": x * scale if mode == "tf" else x,
    "bands": lambda x: x[..., ::-1] * 2,
    "half": lambda x: x[:, 1:-1] / 3 + 1 / 2,
    "powers": lambda x: (x**2 - 1) % 3 // 2,
    "three channels": lambda x: x[:, :, :, 1:],
}
LAMBDAS_MIXING = {
    "Lambda first chip": lambda x: x - x[:1],
    "Lambda reversed": lambda x: x[::-1] + x,
}

# What all who wrote a function of this name wrote.
COMMON_FORMS = {
    "leaky_relu": lambda tf, x: tf.nn.leaky_relu(x),
    "mish": lambda tf, x: x * tf.tanh(tf.nn.softplus(x)),
    "relu6": lambda tf, x: tf.nn.relu6(x),
    "swish": lambda tf, x: x * tf.sigmoid(x),
}
