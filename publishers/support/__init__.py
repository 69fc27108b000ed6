"""What the lessons share: the stage, the program around a lesson, printing."""
