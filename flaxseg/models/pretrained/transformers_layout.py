"""The layout of transformers: SegFormer, and UPerNet with a ConvNeXt backbone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flaxseg.models.encoders import ENCODERS
from flaxseg.models.encoders.mix_transformer import HEADS, REDUCTIONS
from flaxseg.models.pretrained.published import Arrays, Layout, Settings, Unknown, plain
from flaxseg.models.pretrained.torch_names import TorchNames, convert_tensors

TYPE_KEY = "model_type"
"""The key of the network's type."""

_MAX_CLASSES = 255

_SEGFORMER_NAMES: TorchNames = (
    *((rf"segformer\.encoder\.patch_embeddings\.{i}\.proj", f"encoder/stage{i + 1}_embed/conv") for i in range(4)),
    *(
        (rf"segformer\.encoder\.patch_embeddings\.{i}\.layer_norm", f"encoder/stage{i + 1}_embed/norm")
        for i in range(4)
    ),
    *(
        (rf"segformer\.encoder\.block\.{i}\.(\d+)\.{theirs}", rf"encoder/stage{i + 1}_block\1/{ours}")
        for i in range(4)
        for theirs, ours in (
            (r"layer_norm_1", "norm1"),
            (r"layer_norm_2", "norm2"),
            (r"attention\.self\.query", "attention/q"),
            (r"attention\.self\.key_value", "attention/kv"),
            (r"attention\.self\.sr", "attention/reduce"),
            (r"attention\.self\.layer_norm", "attention/norm"),
            (r"attention\.output\.dense", "attention/proj"),
            (r"mlp\.dense1", "mlp/expand"),
            (r"mlp\.dwconv\.dwconv", "mlp/depthwise"),
            (r"mlp\.dense2", "mlp/project"),
        )
    ),
    *((rf"segformer\.encoder\.layer_norm\.{i}", f"encoder/stage{i + 1}_norm") for i in range(4)),
    *((rf"decode_head\.linear_c\.{i}\.proj", f"decoder/linear{3 - i}") for i in range(4)),
    (r"decode_head\.linear_fuse", "decoder/fuse/conv"),
    (r"decode_head\.batch_norm", "decoder/fuse/norm"),
    (r"decode_head\.classifier", "head"),
)

_UPERNET_NAMES: TorchNames = (
    *((rf"backbone\.hidden_states_norms\.stage{i + 1}", f"decoder/feature_norm{i}") for i in range(4)),
    *(
        (rf"decode_head\.{theirs}\.{module}", f"decoder/{ours}/{leaf}")
        for theirs, ours in (
            (r"psp_modules\.(\d)\.1", r"pooling/grid\1"),
            (r"bottleneck", "pooling/fuse"),
            *((rf"lateral_convs\.{i}", f"lateral{2 - i}") for i in range(3)),
            *((rf"fpn_convs\.{i}", f"smooth{2 - i}") for i in range(3)),
            (r"fpn_bottleneck", "fuse"),
        )
        for module, leaf in (("conv", "conv"), ("batch_norm", "norm"))
    ),
    (r"decode_head\.classifier", "head"),
    (r"auxiliary_head\.convs\.0\.conv", "auxiliary_block/conv"),
    (r"auxiliary_head\.convs\.0\.batch_norm", "auxiliary_block/norm"),
    (r"auxiliary_head\.classifier", "auxiliary_head0"),
)

_CONVNEXT_NAMES: TorchNames = (
    (r"backbone\.embeddings\.patch_embeddings", "encoder/stem/conv"),
    (r"backbone\.embeddings\.layernorm", "encoder/stem/norm"),
    (r"backbone\.encoder\.stages\.(\d)\.downsampling_layer\.0", r"encoder/stage\1_downsample/norm"),
    (r"backbone\.encoder\.stages\.(\d)\.downsampling_layer\.1", r"encoder/stage\1_downsample/conv"),
    *(
        (rf"backbone\.encoder\.stages\.(\d)\.layers\.(\d+)\.{theirs}", rf"encoder/stage\1_block\2/{ours}")
        for theirs, ours in (
            ("dwconv", "depthwise"),
            ("layernorm", "norm"),
            ("pwconv1", "expand"),
            ("pwconv2", "project"),
            ("layer_scale_parameter", "gamma"),
        )
    ),
)

_HARMLESS = (
    "architectures", "attention_probs_dropout_prob", "auxiliary_loss_weight", "auxiliary_in_channels", "backbone",
    "backbone_kwargs", "chunk_size_feed_forward", "classifier_dropout_prob", "drop_path_rate", "dtype",
    "hidden_dropout_prob", "id2label", "image_size", "initializer_range", "label2id", "layer_norm_eps",
    "layer_scale_init_value", "loss_ignore_index", "num_labels", "output_attentions", "output_hidden_states",
    "problem_type", "return_dict", "semantic_loss_ignore_index", "stage_names", "torch_dtype", "torchscript",
    "transformers_version", "use_cache", "use_pretrained_backbone", "use_timm_backbone",
)  # fmt: skip
"""Keys that say how a network was trained, or are not used by it: `layer_norm_eps` is one of the latter."""


def read_transformers(settings: Settings) -> Layout:
    """Returns the network that the `config.json` of transformers describes.

    Raises:
      WeightsError: a type or an option that has no counterpart here; the message names the key.
    """
    kind = settings.text(TYPE_KEY)
    if kind not in READERS:
        raise settings.error(TYPE_KEY, kind, f"is not supported; supported are {', '.join(READERS)}")
    architectures = settings.take("architectures") or []
    if isinstance(architectures, list) and not any(str(name).endswith("Segmentation") for name in architectures):
        raise settings.error("architectures", architectures, "is not a network for segmentation; give another one")
    return READERS[kind](settings)


def _segformer(settings: Settings) -> Layout:
    settings.require("num_encoder_blocks", 4)
    settings.require("sr_ratios", REDUCTIONS)
    settings.require("num_attention_heads", HEADS)
    settings.require("patch_sizes", (7, 3, 3, 3))
    settings.require("strides", (4, 2, 2, 2))
    settings.require("mlp_ratios", (4, 4, 4, 4))
    settings.require("hidden_act", "gelu")
    settings.require("reshape_last_stage", True)
    widths = settings.take("hidden_sizes", (32, 64, 160, 256)), settings.take("depths", (2, 2, 2, 2))
    options = {
        "encoder": _encoder(settings, "mit_b", widths),
        "decoder_channels": settings.count("decoder_hidden_size", 256),
        "encoder_epsilon": 1e-5,
        "align_corners": False,
    }
    names, channels = class_names(settings), settings.count("num_channels", 3)
    _refuse_others(settings)
    return Layout("segformer", options, len(names), channels, _convert_segformer, names)


def _upernet(settings: Settings) -> Layout:
    settings.require("pool_scales", (1, 2, 3, 6))
    options: dict[str, Any] = {"decoder_channels": settings.count("hidden_size", 512), "align_corners": False}
    if settings.take("use_auxiliary_head", True):
        settings.require("auxiliary_num_convs", 1)
        settings.require("auxiliary_concat_input", False)
        options |= {"auxiliary_head": True, "auxiliary_channels": settings.count("auxiliary_channels", 256)}
    else:
        for key in ("auxiliary_num_convs", "auxiliary_concat_input", "auxiliary_channels"):
            settings.take(key)
    backbone = Settings(settings.take("backbone_config"), f"{settings.name}: backbone_config")
    kind = backbone.text(TYPE_KEY)
    if kind != "convnext":
        raise backbone.error(TYPE_KEY, kind, "is not supported as a backbone of upernet; only 'convnext' is")
    options["encoder"] = _convnext(backbone)
    names = class_names(settings)
    channels = backbone.count("num_channels", 3)
    settings.take("backbone_hidden_size")
    _refuse_others(settings)
    _refuse_others(backbone)
    return Layout("upernet", options, len(names), channels, _convert_upernet, names)


def _convnext(backbone: Settings) -> str:
    backbone.require("patch_size", 4)
    backbone.require("num_stages", 4)
    backbone.require("hidden_act", "gelu")
    backbone.require("out_features", [f"stage{i}" for i in range(1, 5)])
    backbone.require("out_indices", [1, 2, 3, 4])
    sizes = backbone.take("hidden_sizes", (96, 192, 384, 768)), backbone.take("depths", (3, 3, 9, 3))
    return _encoder(backbone, "convnext_", sizes)


READERS: dict[str, Callable[[Settings], Layout]] = {"segformer": _segformer, "upernet": _upernet}
"""The types of networks that can be opened."""


def _encoder(settings: Settings, prefix: str, sizes: tuple[Any, Any]) -> str:
    """Returns the encoder with the given channels and numbers of blocks."""
    for name, encoder in ENCODERS.items():
        if name.startswith(prefix):
            module: Any = encoder.make(depth=5, output_stride=32, remat=False, dtype=np.float32)
            if (plain(module.channels[1:]), plain(module.blocks)) == tuple(map(plain, sizes)):
                return name
    names = [name for name in ENCODERS if name.startswith(prefix)]
    raise settings.error(
        "hidden_sizes and depths", sizes, f"are those of no encoder here; there are {', '.join(names)}"
    )


def class_names(settings: Settings) -> tuple[str, ...]:
    """Returns the names in `id2label`, in the order of the classes.

    Raises:
      WeightsError: there are none, or not one for each class.
    """
    found = settings.take("id2label")
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found.values()):
        raise settings.error("id2label", found, "must name the classes")
    names = tuple(found.get(str(index)) for index in range(len(found)))
    if None in names or not 0 < len(names) <= _MAX_CLASSES:
        raise settings.error(
            "id2label", found, f"must name the classes 0, 1, ..., of which there may be at most {_MAX_CLASSES}"
        )
    return tuple(str(name).strip() for name in names)


def _refuse_others(settings: Settings) -> None:
    settings.refuse_others(lambda key: key.startswith("_") or key in _HARMLESS or key in _GENERIC)


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


def _convert_segformer(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    del model
    joined = dict(tensors)
    for name in tensors:
        # Keys and values are one matrix here.
        if ".attention.self.key." in name:
            value = name.replace(".key.", ".value.")
            if value in tensors:
                both = [joined.pop(name), joined.pop(value)]
                joined[name.replace(".key.", ".key_value.")] = np.concatenate(both)
    return convert_tensors(joined, _SEGFORMER_NAMES)


def _convert_upernet(model: Any, tensors: Mapping[str, np.ndarray]) -> tuple[Arrays, Unknown]:
    del model
    return convert_tensors(tensors, (*_CONVNEXT_NAMES, *_UPERNET_NAMES))
