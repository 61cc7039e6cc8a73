"""What is known of chest radiographs: words, reports, anatomy, measures and captions."""
