"""A Llama of a hundred thousand random weights, as a folder that any framework loads: it babbles, but it is real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

ROOT = Path(__file__).resolve().parents[2]
LAYERS, HEADS, KEY_VALUE_HEADS, HEAD, INNER = 2, 4, 2, 32, 128
HIDDEN = HEADS * HEAD
SPECIAL = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make(folder: Path, window: int = 2048, seed: int = 0, layers: int = LAYERS) -> Path:
    """Write the model, its tokenizer (byte-level BPE, trained on the example library) and its chat template."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    texts = sorted((ROOT / "examples" / "library").rglob("*.md"))  # they stay: what the model babbles stays, too
    tokenizer.train([str(path) for path in texts], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    put(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "chat_template": TEMPLATE, "model_max_length": window, "clean_up_tokenization_spaces": False,
    })  # fmt: skip
    put(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS, "head_dim": HEAD,
        "num_key_value_heads": KEY_VALUE_HEADS, "max_position_embeddings": window, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1,
        "eos_token_id": 2, "dtype": "float32",
    })  # fmt: skip
    put(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    chance = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return (chance.standard_normal(shape) * 0.2).astype(np.float32)

    keys = KEY_VALUE_HEADS * HEAD
    weights = {"model.embed_tokens.weight": drawn(vocabulary, HIDDEN), "lm_head.weight": drawn(vocabulary, HIDDEN)}
    weights["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    for layer in range(layers):
        name = f"model.layers.{layer}"
        for part, shape in {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (keys, HIDDEN),
            "self_attn.v_proj": (keys, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER),
        }.items():  # fmt: skip
            weights[f"{name}.{part}.weight"] = drawn(*shape)
        for part in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{name}.{part}.weight"] = np.ones(HIDDEN, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_adapter(folder: Path, rank: int = 8, seed: int = 1, hidden: int = HIDDEN) -> Path:
    """Write a LoRA adapter for the model, of random weights large enough to change what it says."""
    folder.mkdir(parents=True)
    put(folder / "adapter_config.json", {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 4 * rank, "lora_dropout": 0.0,
        "bias": "none", "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "tiny",
    })  # fmt: skip
    chance = np.random.default_rng(seed)
    weights = {}
    for layer in range(LAYERS):
        for part, size in (("q_proj", HIDDEN), ("v_proj", KEY_VALUE_HEADS * HEAD)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            weights[f"{name}.lora_A.weight"] = chance.standard_normal((rank, hidden)).astype(np.float32)
            weights[f"{name}.lora_B.weight"] = chance.standard_normal((size, rank)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def put(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
