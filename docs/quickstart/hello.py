import sys
from durabletask import client, worker

address = sys.argv[1] if len(sys.argv) > 1 else "localhost:4001"

def greet(_, name):
    return f"Hello, {name}"

def hello(ctx, name):
    return (yield ctx.call_activity(greet, input=name))

with worker.TaskHubGrpcWorker(host_address=address) as w:
    w.add_activity(greet)
    w.add_orchestrator(hello)
    w.start()
    c = client.TaskHubGrpcClient(host_address=address)
    instance = c.schedule_new_orchestration(hello, input="Ada")
    print(c.wait_for_orchestration_completion(instance).get_output())
