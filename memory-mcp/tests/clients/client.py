"""What a client of PyPI's `mcp` sees of the server: every tool, errors, progress, cancellation, prompts that come and go.

client.py MODE (stdio BINARY STORE | http URL [TOKEN])    MODE: auto, the newest protocol; or legacy, 2025-11-25
"""

import sys
import uuid

import anyio
import jsonschema
from mcp import Client, MCPError, StdioServerParameters

ALL = {
    "start_episode", "record_step", "suggest_next", "complete_episode", "record_episode", "recall", "give_feedback",
    "get_knowledge", "store_note", "find_notes", "get_note", "update_note", "delete_note", "get_statistics",
}
# Long: scheduling on a busy machine is not what is tested.
PATIENCE = 120


class Tools:
    """Calls tools, and holds each answer against the schema that the server gave for it."""

    def __init__(self, client, tools):
        self.client, self.schemas = client, {tool.name: tool.output_schema for tool in tools}

    async def __call__(self, name, **arguments):
        result = await self.client.call_tool(name, arguments)
        assert not result.is_error, (name, result)
        jsonschema.validate(result.structured_content, self.schemas[name])
        assert result.content[0].text
        return result.structured_content

    async def refused(self, name, **arguments):
        result = await self.client.call_tool(name, arguments)
        assert result.is_error, (name, result)
        return result.content[0].text


async def lists(client):
    tools = (await client.list_tools()).tools
    assert {tool.name for tool in tools} == ALL
    hints = {tool.name: tool.annotations for tool in tools}
    assert hints["recall"].read_only_hint and not hints["record_step"].read_only_hint
    assert hints["delete_note"].destructive_hint and hints["delete_note"].idempotent_hint
    assert not hints["record_step"].destructive_hint and not hints["record_step"].idempotent_hint
    assert client.server_info.name == "knowhow" and "start_episode" in client.instructions
    return Tools(client, tools)


async def an_episode(tool):
    task, web = f"make the login test {uuid.uuid4()} pass", {"domain": "web"}
    started = await tool("start_episode", task=task, context=web)
    episode = started["episode"]
    assert "recalled" in started
    for step in [{"tool": "run_tests", "observation": "login fails", "ok": False}, {"tool": "grep", "input": "login"}]:
        written = await tool("record_step", episode=episode, step=step)
    assert (written["durability"], written["steps"]) == ("durable", 2)
    assert "suggestions" in await tool("suggest_next", episode=episode)
    await tool("recall", episode=episode)
    done = {"verdict": "success", "summary": "passes", "reward": 0.9, "artifacts": [{"name": "patch", "content": "+1"}]}
    for _ in range(2):  # told again, it counts once
        assert (await tool("complete_episode", episode=episode, outcome=done))["episode"] == episode
    assert "is complete" in await tool.refused("record_step", episode=episode, step={"tool": "grep"})
    recalled = await tool("recall", task=task, context=web)
    assert episode in [one["episode"] for one in recalled["episodes"]] and episode in recalled["text"]
    told = await tool.client.read_resource(f"knowhow://episodes/{episode}")
    assert '"run_tests"' in told.contents[0].text
    id = str(uuid.uuid4())
    for _ in range(2):
        again = await tool("record_episode", id=id, task="rename a file", steps=[{"tool": "mv"}], outcome=done)
        assert again["episode"] == id


async def notes(tool):
    text = f"deploys are frozen on Fridays {uuid.uuid4()}"
    note = await tool("store_note", text=text, tags=["ops"], kind="fact")
    assert (await tool("store_note", text=text))["merged"]
    assert (await tool("get_note", id=note["id"]))["text"] == text
    assert note["id"] in [one["id"] for one in (await tool("find_notes", query=text))["notes"]]
    assert note["id"] in [one["id"] for one in (await tool("find_notes", tags=["ops"], limit=100))["notes"]]
    changed = await tool("update_note", id=note["id"], text=text + " and Mondays", kind="lesson")
    assert (await tool("get_note", id=changed["id"]))["kind"] == "lesson"
    await tool("delete_note", id=changed["id"])
    assert "not found" in await tool.refused("get_note", id=changed["id"])


async def errors(tool):
    for arguments, told in [
        ({}, "task"),
        ({"task": "x", "surplus": 1}, "surplus"),
        ({"task": 5}, "task"),
        ({"task": "x" * 10_001}, "10000"),
        ({"task": "x", "context": {"tags": ["y" * 65]}}, "64"),
        ({"task": "x", "recall": 101}, "0..=100"),
    ]:
        assert told in await tool.refused("start_episode", **arguments), arguments
    assert "not found" in await tool.refused("record_step", episode=str(uuid.uuid4()), step={"tool": "grep"})
    for request in (
        lambda: tool.client.call_tool("no_such_tool", {}),
        lambda: tool.client.get_prompt("no_such_prompt"),
        lambda: tool.client.read_resource("knowhow://episodes/../../etc/passwd"),
        lambda: tool.client.read_resource(f"knowhow://episodes/{uuid.uuid4()}"),
    ):
        try:
            raise AssertionError(await request())
        except MCPError:
            pass


async def progress(client):
    """A call that asks for progress is told of it, at least once, before its answer, however soon that comes."""
    for _ in range(100):
        told = []

        async def tell(progress, total, message):
            told.append(message)

        await client.call_tool("get_statistics", {"surplus": 1}, progress_callback=tell)
        with anyio.fail_after(PATIENCE):
            while not told:
                await anyio.sleep(0.01)


async def cancelled(tool):
    """Whoever gives up leaves a server that goes on, and what was begun is done whole."""
    text = f"given up {uuid.uuid4()}"
    with anyio.move_on_after(0):
        await tool("store_note", text=text)
    assert await tool("get_statistics")
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(lambda number=number: tool("store_note", text=f"{text} {number}"))
    listed = await tool("find_notes", query=text, limit=100)
    assert sum(one["text"].startswith(text + " ") for one in listed["notes"]) == 50


async def repairs(tool, domain):
    """Eight tasks, each done four times with a look at the tests first, and four times without; the looks help."""
    for name in ("login", "invoice", "cache", "parser", "router", "mailer", "queue", "report"):
        for turn in range(8):
            first, lucky = ("test", 3) if turn < 4 else ("read", 1)
            outcome = {"verdict": "success" if turn % 4 < lucky else "failure"}
            steps = [{"tool": first}, {"tool": "edit"}]
            await tool("record_episode", task=f"repair {name}", context={"domain": domain}, steps=steps, outcome=outcome)


async def playbooks(tool, changes):
    """A playbook becomes a prompt when there is evidence for it, and is none any more when its rules are retired."""
    domain = f"shop{uuid.uuid4().hex[:8]}"

    async def prompts():
        return [prompt.name for prompt in (await tool.client.list_prompts()).prompts if domain in prompt.name]

    async def told(changed):
        with anyio.fail_after(PATIENCE):
            while not changed(await prompts()):
                await changes.wait()

    assert await prompts() == []
    await repairs(tool, domain)
    await told(lambda names: names)
    [name] = await prompts()
    text = (await tool.client.get_prompt(name)).messages[0].content.text
    assert "test" in text and "evidence" in text, text
    assert name.removeprefix("playbook-") == domain
    playbook = (await tool("get_knowledge", domain=domain))["playbooks"][0]
    assert playbook["text"] in text and '"test"' not in text
    rules = (await tool("get_knowledge", what="rules", domain=domain))["rules"]
    assert rules and all(rule["shown"] for rule in rules)
    explained = (await tool("get_knowledge", explain=rules[0]["id"]))["explanation"]
    assert explained["episodes_for"] and explained["episodes_against"] and explained["what"]
    patterns = (await tool("get_knowledge", what="patterns", domain=domain, contains="edit"))["patterns"]
    assert patterns and all("edit" in str(pattern) for pattern in patterns)
    for _ in range(3):
        started = await tool("start_episode", task="repair login", context={"domain": domain})
        shown = started["recalled"]["rules"]
        assert shown and set(shown) <= {rule["id"] for rule in rules}
        for rule in shown:
            await tool("give_feedback", episode=started["episode"], rule=rule, feedback="harmful")
        await tool("complete_episode", episode=started["episode"], outcome={"verdict": "failure"})
    await told(lambda names: not names)
    rules = (await tool("get_knowledge", what="rules", domain=domain))["rules"]
    assert {rule["standing"] for rule in rules} == {"retired"}, rules


class Changes:
    """What the server tells of its list of prompts."""

    def __init__(self):
        self.event = anyio.Event()

    async def wait(self):
        """Waits for the next."""
        await self.event.wait()
        self.event = anyio.Event()

    async def message(self, message):
        if type(message).__name__ == "PromptListChangedNotification":
            self.event.set()

    async def listen(self, client, *, task_status):
        async with client.listen(prompts_list_changed=True) as subscription:
            task_status.started()
            async for _ in subscription:
                self.event.set()


async def main(mode, transport, *place):
    if transport == "stdio":
        binary, store = place
        server = StdioServerParameters(command=binary, args=["mcp", "--store", store])
    else:
        server = http(*place)
    changes = Changes()
    async with Client(server, mode=mode, message_handler=changes.message) as client:
        expected = {"auto": "2026-07-28", "legacy": "2025-11-25"}[mode]
        assert client.protocol_version == expected, client.protocol_version
        tool = await lists(client)
        async with anyio.create_task_group() as group:
            if mode == "auto":
                await group.start(changes.listen, client)
            await an_episode(tool)
            await notes(tool)
            await errors(tool)
            await progress(client)
            await cancelled(tool)
            await playbooks(tool, changes)
            statistics = await tool("get_statistics")
            assert statistics["notes"]["active"] >= 50 and statistics["store"]["episodes"] >= 60, statistics
            group.cancel_scope.cancel()
    print(f"ok: {mode} over {transport}, protocol {expected}")


def http(url, token=None):
    if token is None:
        return url
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    return streamable_http_client(url, http_client=httpx2.AsyncClient(timeout=PATIENCE, headers={"Authorization": f"Bearer {token}"}))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
