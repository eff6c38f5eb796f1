"""doctor/lint/hazards.py: which ops open files or run code."""

import types

from absl.testing import absltest
from absl.testing import parameterized

from graph_resnet9.doctor.graph.nodes import Node
from graph_resnet9.doctor.lint import hazards

# Of TensorFlow's op definitions, by what their kernels do.
CODE = (
  'PyFunc PyFuncStateless EagerPyFunc GeneratorDataset PyInvoke RemoteCall '
  'XlaLaunch XlaLaunchV2 XlaCustomCall XlaCustomCallV2 CustomAggregator'
).split()
FILES = (
  'ReadFile WriteFile MatchingFiles WholeFileReader WholeFileReaderV2 '
  'TextLineReader TextLineReaderV2 TFRecordReader TFRecordReaderV2 '
  'FixedLengthRecordReader FixedLengthRecordReaderV2 LMDBReader '
  'IdentityReader IdentityReaderV2 TextLineDataset TFRecordDataset '
  'TFRecordDatasetV2 FixedLengthRecordDataset FixedLengthRecordDatasetV2 '
  'CSVDataset CSVDatasetV2 ExperimentalCSVDataset LMDBDataset '
  'ExperimentalLMDBDataset SqlDataset ExperimentalSqlDataset '
  'MatchingFilesDataset ExperimentalMatchingFilesDataset SnapshotDataset '
  'SnapshotDatasetV2 SaveDataset SaveDatasetV2 LoadDataset CacheDataset '
  'CacheDatasetV2 InitializeTableFromTextFile InitializeTableFromTextFileV2 '
  'ImmutableConst SummaryFileWriter CreateSummaryFileWriter '
  'CreateSummaryDbWriter DecodeProtoV2 EncodeProto DeleteFile RenameFile '
  'CopyFile MergeV2Checkpoints LoadAndRemapMatrix GenerateVocabRemapping '
  'FileSystemSetConfiguration'
).split()
NEITHER = (
  'Const Placeholder SaveV2 RestoreV2 Save Restore TensorSliceDataset '
  'RangeDataset ShuffleDataset ReaderReadV2 QueueDequeueV2 DecodeRaw '
  'MergeSummary HashTableV2 MyPyFunc ReadFileNow XlaDot'
).split()


def notes(*ops):
  nodes = [Node('op%d' % k, op, {}, 0) for k, op in enumerate(ops)]
  view = types.SimpleNamespace(nodes={node.name: node for node in nodes})
  return list(hazards.notes(view))


class NotesTest(parameterized.TestCase):
  @parameterized.parameters(*CODE)
  def test_code(self, op):
    self.assertEqual(
      notes('Const', op),
      ['when run, ops run code outside of the graph: op1 (%s)' % op],
    )

  @parameterized.parameters(*FILES)
  def test_files(self, op):
    self.assertEqual(
      notes(op, 'Const'), ['when run, ops read or write files: op0 (%s)' % op]
    )

  def test_all_others_are_not_named(self):
    """Savers' ops do what the session is told, and readers' what a reader."""
    self.assertEqual(notes(*NEITHER), [])

  def test_code_first_and_a_few_of_many(self):
    self.assertEqual(
      notes(*['ReadFile'] * 6, 'PyFunc'),
      [
        'when run, ops run code outside of the graph: op6 (PyFunc)',
        'when run, ops read or write files: op0 (ReadFile), op1 (ReadFile), '
        'op2 (ReadFile), op3 (ReadFile) and 2 more',
      ],
    )


if __name__ == '__main__':
  absltest.main()
