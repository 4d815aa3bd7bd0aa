"""Renders every chat template of the installed trainers as transformers does: prints JSON, path to list of texts or null."""

import datetime
import json
import os
import pathlib
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

# The day that a template sees here, too: prompts do not change from day to day.
DAY = datetime.datetime(2024, 7, 26)

root, tokens, conversations = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
found = {}
for path in sorted(root.rglob("*.jinja")):
    # Templates of agents' prompts and model cards are no chat templates.
    if "chat_template" not in str(path):
        continue
    texts = []
    for messages in conversations:
        try:
            template = _compile_jinja_template(path.read_text())
            texts.append(template.render(messages=messages, tools=None, documents=None, add_generation_prompt=True,
                                         enable_thinking=False, strftime_now=DAY.strftime, **tokens))
        except Exception:
            texts.append(None)
    found[os.path.relpath(path, root)] = texts
print(json.dumps(found))
