import NIOCore
import P2PDTraversal

extension Node {
  /// A message came from the node of this key.
  /// - Parameters:
  ///   - oneWay: how long a message to that node takes, where it is known.
  ///   - messenger: leads back to it.
  ///   - answer: answers a request, once; nil for a message that wants no answer.
  func signalled(
    _ bytes: [UInt8], from key: NodeKey, oneWay: TimeAmount?, messenger: any Messenger, answer: (([UInt8]) -> Void)?
  ) {
    logger.debug("a signal of an unknown kind", metadata: ["key": "\(key.short)", "bytes": "\(bytes.count)"])
  }
}
