"""LibriSpeech: a Conformer and a DeepSpeech that write down what is said, each with three variants."""
