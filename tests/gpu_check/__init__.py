"""One command that measures this package on a GPU: `make gpu-check`, or, in the repository's root
where there is neither make nor ROS, ``PYTHONPATH=tests python3 -m gpu_check``.
"""
