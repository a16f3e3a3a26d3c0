"""Folders in the layouts of segmentation_models_pytorch and transformers, made without PyTorch."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from compare import tensors_of

GOLDEN = Path(__file__).parent / "models" / "golden"

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The commit of every repository of `hub_server`."""

CARD = "---\nlibrary_name: other\nlicense: {license}\n---\n# A network\nDataset name: {dataset}\n"

SEGFORMER = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "model_type": "segformer",
    "id2label": {"0": "road", "1": "building ", "2": "sky"},
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [32, 64, 160, 256],
    "decoder_hidden_size": 256,
    "hidden_act": "gelu",
    "num_channels": 3,
    "torch_dtype": "float32",
}

PREPROCESSOR = {
    "do_normalize": True,
    "do_reduce_labels": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.1],
    "size": {"height": 64, "width": 96},
}


def smp_tensors(architecture, encoder):
    """Returns the tensors of the golden network with these names."""
    return tensors_of(np.load(GOLDEN / f"{architecture}-{encoder}.npz"), encoder)


def write_repository(folder, config, tensors, *, card="", files=None):
    """Writes a repository and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in (files or {}).items():
        (folder / name).write_text(json.dumps(content))
    if card:
        (folder / "README.md").write_text(card)
    if tensors is not None:
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors"
        )
    return folder


def smp_config(kind, encoder, **options):
    """Returns the configuration that segmentation_models_pytorch writes for a network with three classes."""
    return {"_model_class": kind, "encoder_name": encoder, "encoder_weights": None, "classes": 3, **options}


def segformer_tensors():
    """Returns the tensors of the golden SegFormer under the names of transformers."""
    return dict(_renamed(name, value) for name, value in _split(smp_tensors("segformer", "mit_b0")))


def _split(tensors):
    for name, value in tensors.items():
        if ".attn.kv." in name:
            key, rest = np.split(value, 2)
            yield name.replace(".kv.", ".k."), key
            yield name.replace(".kv.", ".v."), rest
        else:
            yield name, value


def _renamed(name, value):
    module, _, leaf = name.rpartition(".")
    part, *rest = module.split(".")
    if part == "segmentation_head":
        return f"decode_head.classifier.{leaf}", value
    if part == "decoder":
        new = {"0": "linear_fuse", "1": "batch_norm"}[rest[1]] if rest[0] == "fuse_stage" else ""
        return f"decode_head.{new or f'linear_c.{3 - int(rest[1])}.proj'}.{leaf}", value
    first, number, inner = rest[0][:-1], int(rest[0][-1]) - 1, ".".join(rest[1:])
    if first == "patch_embed":
        new = f"patch_embeddings.{number}.{'proj' if inner == 'proj' else 'layer_norm'}"
    elif first == "norm":
        new = f"layer_norm.{number}"
    else:
        block, _, layer = inner.partition(".")
        new = f"block.{number}.{block}.{_LAYERS[layer]}"
    return f"segformer.encoder.{new}.{leaf}", value


_LAYERS = {
    "norm1": "layer_norm_1",
    "norm2": "layer_norm_2",
    "attn.q": "attention.self.query",
    "attn.k": "attention.self.key",
    "attn.v": "attention.self.value",
    "attn.sr": "attention.self.sr",
    "attn.norm": "attention.self.layer_norm",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.dense1",
    "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
    "mlp.fc2": "mlp.dense2",
}
