"""What rclpy does not do by itself: executor, QoS, and replies that arrive."""
