"""Questions about picture files, from the command line: without ROS."""
