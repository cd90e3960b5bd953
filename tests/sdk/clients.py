"""The vendors' own clients, with their own defaults, ask a gateway once each; prints what they made of the answers."""

import json
import sys
import time

import anthropic
import openai

GATEWAY = sys.argv[1]
QUESTION = [{"role": "user", "content": "Hello?"}]


def ask_openai():
    client = openai.OpenAI(base_url=GATEWAY + "/v1", api_key="unused")
    answer = client.chat.completions.create(model="mimo-v2-omni", messages=QUESTION)
    return answer.choices[0].message.content


def ask_anthropic():
    client = anthropic.Anthropic(base_url=GATEWAY, api_key="unused")
    answer = client.messages.create(model="mimo-v2-omni", max_tokens=50, messages=QUESTION)
    return answer.content[0].text


def outcome(ask):
    started = time.monotonic()
    try:
        seen = {"text": ask()}
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        seen = {"status": error.status_code, "error": type(error).__name__, "message": str(error)}
    return {**seen, "seconds": time.monotonic() - started}


print(json.dumps({"openai": outcome(ask_openai), "anthropic": outcome(ask_anthropic)}))
