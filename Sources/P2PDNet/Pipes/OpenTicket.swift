import NIOCore

/// What an opening of ``PipeOpener`` is given up with. Confined to the loop of the opening.
public final class OpenTicket: @unchecked Sendable {
  public private(set) var isCancelled = false
  private var onCancel: ((NetError) -> Void)?

  public init() {}

  /// Gives it up: what was begun for it is closed at once, and its future fails with `cancelled`. Harmless when it is over.
  public func cancel() {
    guard !isCancelled else { return }
    isCancelled = true
    let body = onCancel
    onCancel = nil
    body?(Self.error)
  }

  /// For the opening: whom to stop from now on; nil for nobody any more.
  func watch(_ body: ((NetError) -> Void)?) { onCancel = body }

  static let error = NetError(.cancelled, "open a pipe", cause: "it was given up")
}
