"""The package kosmos_ros, as colcon builds it for a ROS distribution and pip for any Python.

Its commands are declared in setup.cfg, where the set-up of a machine without ROS reads them, too.
"""

from pathlib import Path
import re

from setuptools import find_packages, setup

NAME = 'kosmos_ros'
SHARE = f'share/{NAME}'
# For `pip install .` without ROS: what the embedded engine and the commands import.
# In a ROS distribution package.xml names what its packages provide.
REQUIRED = [
    'numpy',
    'onnxruntime',
    'packaging',
    'pillow>=10.1',
    'psutil',
    'pyyaml',
    'safetensors',
    'sentencepiece',
]
TORCH = ['onnx', 'onnxscript', 'safetensors', 'torch']
EXTRAS = {
    # To build engines, and to run them by PyTorch.
    'torch': TORCH,
    # To build them for RTX cards, and run them there; plans need the release that built them.
    'rtx': [
        *TORCH,
        'tensorrt-rtx-cu13-bindings==1.7.1.116',
        'tensorrt-rtx-cu13-libs==1.7.1.116',
    ],
    # To build them from a checkpoint on the Hugging Face hub.
    'hub': ['huggingface_hub>=2.4'],
}


def version() -> str:
    """The version that the package states, read without importing it."""
    text = Path(NAME, '__init__.py').read_text(encoding='utf-8')
    stated = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    if stated is None:
        raise ValueError(f'{NAME}/__init__.py states no __version__')
    return stated[1]


def shared_files() -> list[tuple[str, list[str]]]:
    """The files that go under share, by folder."""
    folders: dict[str, list[str]] = {
        'share/ament_index/resource_index/packages': [f'resource/{NAME}'],
        SHARE: ['package.xml'],
    }
    for top in ('launch', 'engines'):
        for path in sorted(Path(top).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                folders.setdefault(f'{SHARE}/{path.parent}', []).append(str(path))
    return list(folders.items())


setup(
    name=NAME,
    version=version(),
    description='Ask a robot camera where things are: Kosmos-2 grounding for ROS 2.',
    author='kosmos_ros authors',
    license='Apache-2.0',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed']},
    data_files=shared_files(),
    python_requires='>=3.10',
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    zip_safe=False,
)
