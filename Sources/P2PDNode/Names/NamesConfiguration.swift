import Glibc

/// How names are found and kept; the name servers are among the ``ServerList``. Nothing is read, written or sent to the
/// local network unless it is asked for here.
public struct NamesConfiguration: Sendable {
  /// The user's own names (``P2PDNames/NamesFile``); nil: none.
  public var file: String?
  /// The folder of ``NameBook/pinFile``, in which the keys of names are remembered. nil: that of the node, where it has
  /// one, and else the keys are remembered as long as the node lives.
  public var pinFolder: String?
  /// Asks and tells the local network (multicast DNS).
  public var multicast = false
  /// Asks the DNS for names whose ending belongs to no set of name servers.
  public var dns = false
  /// In place of name servers, for the ending `peer`; offline too.
  public var table: NameTable?

  public init() {}

  /// `$XDG_CONFIG_HOME/p2pd/names`, or `~/.config/p2pd/names`; nil without a home.
  public static var userFile: String? {
    if let base = getenv("XDG_CONFIG_HOME").map({ String(cString: $0) }), base.hasPrefix("/") {
      return base + "/p2pd/names"
    }
    if let home = getenv("HOME").map({ String(cString: $0) }), home.hasPrefix("/") {
      return home + "/.config/p2pd/names"
    }
    return nil
  }
}
