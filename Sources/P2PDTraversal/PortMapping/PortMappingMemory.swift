import P2PDNet

/// What a node must remember of its mappings to have the same again after it restarts: the nonces that prove them its
/// own, and the outside ports it had. A few lines of text for the state folder; the nonces are secret.
public struct PortMappingMemory: Hashable, Sendable {
  struct Key: Hashable, Sendable {
    var gateway: IPAddress
    var want: MappingLease.Want
  }

  struct Entry: Hashable, Sendable {
    var nonce: PCPNonce
    var external: Endpoint?
  }

  /// The latest used stands first.
  private(set) var entries: [(key: Key, entry: Entry)] = []

  public init() {}

  subscript(key: Key) -> Entry? { entries.first { $0.key == key }?.entry }

  mutating func set(_ entry: Entry, for key: Key) {
    entries.removeAll { $0.key == key }
    entries.insert((key, entry), at: 0)
    if entries.count > Self.mostEntries { entries.removeLast() }
  }

  /// `tcp 192.168.1.10 4000 192.168.1.1 00112233445566778899aabb 203.0.113.5:4000`, or `-` at the end.
  public var text: String {
    entries.map { key, entry in
      "\(key.want.transport.rawValue) \(key.want.local) \(key.want.port) \(key.gateway) "
        + "\(entry.nonce.description) \(entry.external.map(\.description) ?? "-")\n"
    }.joined()
  }

  /// Lines that cannot be read are left out: they name an interface that is gone, or were cut short.
  public init(text: String) {
    for line in text.split(separator: "\n").prefix(Self.mostEntries) {
      let words = line.split(separator: " ").map(String.init)
      guard words.count == 6, let transport = PipeProto(rawValue: words[0]), let local = IPAddress(words[1]),
        let port = UInt16(words[2]), let gateway = IPAddress(words[3]), let nonce = PCPNonce(hex: words[4])
      else { continue }
      let key = Key(gateway: gateway, want: .init(local: local, transport: transport, port: port))
      if self[key] == nil { entries.append((key, Entry(nonce: nonce, external: Endpoint(words[5])))) }
    }
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.entries.elementsEqual(b.entries) { $0.key == $1.key && $0.entry == $1.entry }
  }

  public func hash(into hasher: inout Hasher) {
    for (key, entry) in entries {
      hasher.combine(key)
      hasher.combine(entry)
    }
  }

  /// Of networks a laptop visits.
  private static let mostEntries = 32
}

extension PCPNonce: CustomStringConvertible {
  /// 24 hexadecimal digits.
  public var description: String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  init?(hex text: String) {
    let digits = text.compactMap(\.hexDigitValue)
    guard text.utf8.count == 2 * Self.size, digits.count == 2 * Self.size else { return nil }
    self.init(
      stride(from: 0, to: digits.count, by: 2).map { UInt8(truncatingIfNeeded: digits[$0] << 4 | digits[$0 + 1]) })
  }
}
