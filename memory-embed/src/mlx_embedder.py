"""Embeds texts with MLX: one JSON object a line, {"id","texts"} in, {"id","embeddings"} or {"id","error"} out.

The argument is the directory of a model. {"ready": true} comes first, when it is loaded. Of texts that the model does not take,
because they have too many tokens, the answer has "too_long": true beside the error. Ends when standard input does.
"""

import json
import os
import signal
import sys

# Standard output is for answers alone: whatever libraries print goes to standard error, from C too.
answers = os.fdopen(os.dup(1), "w", encoding="ascii")
os.dup2(2, 1)
sys.stdout = sys.stderr
# What is in the folder that the program happens to run in is no library.
sys.path = [path for path in sys.path if path]
# An interrupt from the terminal is for the parent, which ends this process by closing standard input.
signal.signal(signal.SIGINT, signal.SIG_IGN)

import mlx.core as mx
from mlx_embeddings import load


class TooLong(ValueError):
    pass


def read(directory, name):
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


class Embedder:
    def __init__(self, directory):
        # Not the name of a model elsewhere, which would be downloaded.
        if not os.path.isdir(directory):
            raise NotADirectoryError(directory)
        self.model, self.tokenizer = load(directory)
        self.first_token = read(directory, "1_Pooling/config.json").get("pooling_mode_cls_token", False)
        limits = [
            read(directory, "config.json").get("max_position_embeddings"),
            read(directory, "sentence_bert_config.json").get("max_seq_length"),
        ]
        self.longest = min((limit for limit in limits if limit), default=None)

    def embed(self, texts):
        if not texts:
            return []
        inputs = self.tokenizer(texts, return_tensors="np", padding=True, truncation=False)
        longest = int(inputs["attention_mask"].sum(axis=1).max())
        if self.longest and longest > self.longest:
            raise TooLong(f"a text has {longest} tokens; allowed: up to {self.longest}")
        output = self.model(mx.array(inputs["input_ids"]), attention_mask=mx.array(inputs["attention_mask"]))
        vectors = output.last_hidden_state[:, 0] if self.first_token else output.text_embeds
        return vectors.astype(mx.float32).tolist()


def answer(message):
    # Numbers that are not finite are no JSON: an error, and no answer that cannot be read.
    print(json.dumps(message, allow_nan=False), file=answers, flush=True)


def main():
    embedder = Embedder(sys.argv[1])
    answer({"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer({"id": request["id"], "embeddings": embedder.embed(request["texts"])})
        except TooLong as error:
            answer({"id": request["id"], "error": str(error), "too_long": True})
        except Exception as error:
            answer({"id": request["id"], "error": f"{type(error).__name__}: {error}"})


main()
