"""Where every file lies, relative to the root; a path holds ids, never parameters."""


def study_file(study: str) -> str:
    """Return the config file of a study."""
    return f"config/studies/{study}.yaml"


def scale_file(scale: str) -> str:
    """Return the config file of a scale."""
    return f"config/scales/{scale}.yaml"


def published_file(study: str) -> str:
    """Return the file of a study's printed numbers."""
    return f"config/published/{study}.csv"


def data_folder(dataset: str) -> str:
    """Return the folder of a dataset, shared by all scales."""
    return f"results/data/{dataset}"


def data_file(dataset: str, name: str) -> str:
    """Return a file of a dataset."""
    return f"{data_folder(dataset)}/{name}"


def model_file(scale: str, model: str, seed: int, name: str) -> str:
    """Return a file of a trained model."""
    return f"results/{scale}/models/{model}/seed-{seed}/{name}"


def attack_file(scale: str, model: str, seed: int, attack: str) -> str:
    """Return the file of an attack's rows."""
    return f"results/{scale}/attacks/{model}/seed-{seed}/{attack}.parquet"


def artifact_file(scale: str, study: str, artifact: str, suffix: str) -> str:
    """Return a file of a table or figure."""
    return f"results/{scale}/{study}/{artifact}.{suffix}"
