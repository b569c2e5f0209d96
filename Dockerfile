FROM python:3.13.12-slim-trixie

# The annotations of the OCI image specification. The version is that of chip_classifier/__init__.py.
LABEL org.opencontainers.image.title="deploy-chip-classifier" \
      org.opencontainers.image.description="Classifies a tar of image chips with a Keras model" \
      org.opencontainers.image.version="1.2.0" \
      org.opencontainers.image.source="https://github.com/platformstories/deploy-chip-classifier" \
      org.opencontainers.image.documentation="https://github.com/platformstories/deploy-chip-classifier#readme"

# tensorflow[and-cuda] brings the CUDA libraries, for a GPU, which are several GB. For machines
# without one, build with --build-arg TENSORFLOW=tensorflow: the image has 2.8 GB. All versions are
# those of requirements.txt.
ARG TENSORFLOW=tensorflow[and-cuda]

# What NVIDIA's container runtime hands to the container where it is not asked with --gpus.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# GDAL, in the wheel of rasterio, needs it; the slim image of Python does not have it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*

COPY .ci/packages/cpu.txt .ci/packages/gpu.txt /packages/
RUN case "$TENSORFLOW" in tensorflow) list=cpu ;; *) list=gpu ;; esac \
    && pip install --no-cache-dir --require-hashes -r "/packages/$list.txt"

COPY deploy-chip-classifier.py /
COPY chip_classifier /chip_classifier
COPY keras_files /keras_files
# A container that is read-only, or is another user's, could not keep what each run compiles.
RUN python -m compileall -q /chip_classifier /keras_files

# It runs as root, since GBDX mounts a work directory that root owns, and as any other user with
# docker run --user. It has no HEALTHCHECK: it is a job, and its exit code and status.json tell all.
CMD ["python", "/deploy-chip-classifier.py"]
