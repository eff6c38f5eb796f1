"""The shapes of tensors, as a graph's attributes say them or by inference.

TensorFlow would infer them by importing the graph, and evaluates constant
parts of it on the way. Here nothing is evaluated: each rule knows one op's
sizes, and what has no rule has no shape.
"""

from graph_resnet9.doctor.graph import questions
from graph_resnet9.doctor.graph import shape_rules
from graph_resnet9.doctor.graph import size_values


def shape(tensor):
  """A list of sizes, None where unknown; None if not even the rank is known.

  Args:
    tensor: nodes.Tensor.
  """
  return _answer(questions.shape_of(tensor))


def _answer(question):
  """The answer to a question, found without recursion: graphs are deep."""
  known = question.tensor.node.known
  if question in known:
    return known[question]
  asked = {question}
  stack = [(question, _rule(question))]
  answer = None
  while stack:
    current, rule = stack[-1]
    try:
      wanted = rule.send(answer)
    except StopIteration as stop:
      answer = current.tensor.node.known[current] = stop.value
      stack.pop()
      asked.discard(current)
      continue
    answer = wanted.tensor.node.known.get(wanted)
    # Around a loop of the graph the question is its own answer: not known.
    if wanted not in wanted.tensor.node.known and wanted not in asked:
      asked.add(wanted)
      stack.append((wanted, _rule(wanted)))
      answer = None
  return answer


def _rule(question):
  if question.kind == 'value':
    return size_values.value(question.tensor)
  return shape_rules.shape(question.tensor)
