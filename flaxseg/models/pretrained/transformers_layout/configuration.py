"""What the readers of all types of networks share: encoders, class names, and keys that change no output."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flaxseg.errors import is_number
from flaxseg.models.encoders import ENCODERS
from flaxseg.models.pretrained.published import Settings, plain

TYPE_KEY = "model_type"
"""The key of the network's type, and of its backbone's."""

_MAX_CLASSES = 255

_HARMLESS = (
    "architectures", "attention_probs_dropout_prob", "auxiliary_loss_weight", "auxiliary_in_channels", "backbone",
    "backbone_kwargs", "chunk_size_feed_forward", "classifier_dropout_prob", "drop_path_rate", "dtype",
    "hidden_dropout_prob", "id2label", "image_size", "initializer_range", "label2id", "layer_norm_eps",
    "layer_scale_init_value", "loss_ignore_index", "num_labels", "output_attentions", "output_hidden_states",
    "problem_type", "return_dict", "semantic_loss_ignore_index", "stage_names", "torch_dtype", "torchscript",
    "transformers_version", "use_cache", "use_pretrained_backbone", "use_timm_backbone",
)  # fmt: skip
"""Keys that say how a network was trained, or are not used by it: `layer_norm_eps` is one of the latter."""

_GENERIC = (
    "is_encoder_decoder", "is_decoder", "add_cross_attention", "cross_attention_hidden_size", "tie_word_embeddings",
    "tie_encoder_decoder", "tokenizer_class", "prefix", "task_specific_params", "finetuning_task", "pruned_heads",
    "tf_legacy_loss", "use_bfloat16", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "decoder_start_token_id", "bad_words_ids", "num_beams", "num_beam_groups", "num_return_sequences", "max_length",
    "min_length", "length_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "diversity_penalty", "do_sample", "early_stopping",
    "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "begin_suppress_tokens",
    "suppress_tokens", "remove_invalid_values", "return_dict_in_generate", "output_scores", "downsampling_rates",
)  # fmt: skip
"""Keys of every configuration that earlier versions of transformers wrote, mostly for networks that write texts."""


def encoder_of(settings: Settings, prefix: str, keys: Mapping[str, tuple[Callable[[Any], Any], Any]]) -> str:
    """Returns the name of the encoder that has the sizes of a configuration.

    Args:
      settings: the configuration.
      prefix: the beginning of the names of the encoders to choose from.
      keys: for each key of the configuration, a function that returns its value for an encoder's module, and its
        default.

    Raises:
      WeightsError: there is no such encoder.
    """
    sizes = {key: settings.take(key, default) for key, (_, default) in keys.items()}
    names = [name for name in ENCODERS if name.startswith(prefix)]
    for name in names:
        module: Any = ENCODERS[name].make(depth=5, output_stride=32, dtype=np.float32)
        if all(plain(keys[key][0](module)) == plain(size) for key, size in sizes.items()):
            return name
    raise settings.error(
        " and ".join(sizes), tuple(sizes.values()), f"are those of no encoder here; there are {', '.join(names)}"
    )


def positive_number(settings: Settings, key: str, default: float) -> float:
    """Returns the value of a key that has to be a number above 0.

    Raises:
      WeightsError: it is something else.
    """
    value = settings.take(key, default)
    if not is_number(value) or value <= 0:
        raise settings.error(key, value, "must be a number above 0")
    return float(value)


def class_names(settings: Settings) -> tuple[str, ...]:
    """Returns the names in `id2label`, in the order of the classes; without the key, those of two classes.

    Raises:
      WeightsError: it does not have a name for each class.
    """
    # Transformers does not write what equals its default.
    found = settings.take("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found.values()):
        raise settings.error("id2label", found, "must name the classes")
    names = tuple(found.get(str(index)) for index in range(len(found)))
    if None in names or not 0 < len(names) <= _MAX_CLASSES:
        raise settings.error(
            "id2label", found, f"must name the classes 0, 1, ..., of which there may be at most {_MAX_CLASSES}"
        )
    return tuple(str(name).strip() for name in names)


def refuse_others(settings: Settings) -> None:
    """Refuses the keys that were not used, unless they change no output.

    Raises:
      WeightsError: there is such a key.
    """
    settings.refuse_others(lambda key: key.startswith("_") or key in _HARMLESS or key in _GENERIC)
