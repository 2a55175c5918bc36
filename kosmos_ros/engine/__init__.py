"""From the model to answers: engines, runners, engine directories.  Knows nothing of ROS."""
