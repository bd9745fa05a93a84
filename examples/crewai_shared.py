"""Eight crews of CrewAI ask the same at once; the model is called once. No key is needed: the model is made up.

    pip install memgang crewai        # in an environment without memgang's extras [openai] and [mcp], which want newer SDKs
    python examples/crewai_shared.py

Run it twice: the second time nothing is computed. `memgang stats --space example` shows what was saved.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false"}

from crewai import Agent, BaseLLM, Crew, Task

import memgang
from memgang.adapters.crewai import MemGangLLM

calls = []


class MadeUp(BaseLLM):
    """Takes half a second for an answer, as a hosted model might. Put crewai.LLM("openai/gpt-5-mini") below for a real one."""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        calls.append(messages)
        time.sleep(0.5)
        return "Because it was asked."


def review(space: memgang.BlockingSpace) -> str:
    agent = Agent(role="Reviewer", goal="To review", backstory="You review.", llm=MemGangLLM(MadeUp(model="made-up"), space))
    task = Task(description="Why?", expected_output="One sentence.", agent=agent)
    return str(Crew(agents=[agent], tasks=[task]).kickoff().raw)


with memgang.connect(space="example") as space, ThreadPoolExecutor(8) as threads:
    answers = list(threads.map(review, [space] * 8))
print(f"{len(answers)} answers: {answers[0]}")
print(f"calls of the model: {len(calls)}")
