"""What pyproject.toml cannot say: the packages are found, and ``configs`` travels in the wheel beside them."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kd_lightning*"]), "kd_lightning.configs"],
    package_dir={"kd_lightning.configs": "configs"},
)
