import NIOCore
import P2PDNet

/// What two nodes tell each other over their brokers on the way to a pipe. A is the node that connects, B the other one.
/// The bytes are drawn in Rendezvous+Codec.swift.
///
///     A  OFFER ────────►  B      who I am to be found at, what I want
///     A  ◄────── ANSWER   B      the same of B, or why not
///     A  RELAY ────────►  B      an address at a relay, to be dialled: a request, with an empty answer; without an
///     A  ◄────── RELAY    B      address: A has no relay, and B answers with one of its own, or with a REPORT why not
///     A  ROUND ────────►  B      an address at a relay from which the other one's relay will be connected to, because
///     A  ◄─────── ROUND   B      it cannot be dialled from here: a request, answered when that one is let through, with
///                                nothing, or with a REPORT why it is not
///     A  ◄────── REPORT   B      what B tried in vain
///     A  ABORT ────────►  B      enough: there is a pipe, or nobody waits for one
///
/// And beside any race, of a node whose address may be old:
///
///     A  WHERE ────────►  B      which address have you now?
///     A  ◄──────── HERE   B      it
public struct Rendezvous: Hashable, Sendable {
  public var session: SessionID
  public var message: Message

  public init(_ session: SessionID, _ message: Message) {
    self.session = session
    self.message = message
  }

  public enum Message: Hashable, Sendable {
    case offer(Offer)
    case answer(Answer)
    /// Relayed addresses, each as good as the others; none asks for some.
    case relay([Endpoint])
    /// Where a relay of this side's own will come from to the other side's.
    case round([Endpoint])
    case report([PathAttempt])
    case abort
    case whereabouts
    /// The text of the address that the node has now. It proves itself: whoever reads it checks its signature.
    case here(String)
  }

  /// How one side can be found.
  public struct Side: Hashable, Sendable {
    public var paths: [PeerPath] = []
    /// nil: it takes no part in hole punching.
    public var punch: PunchSide?
    /// Its round trip to its nearest broker; nil: not known.
    public var leg: TimeAmount?

    public init() {}
  }

  public struct Offer: Hashable, Sendable {
    /// The protocol the pipe is to speak; "" is the default one.
    public var protocolName = ""
    /// What A wants B to take part in.
    public var strategies: Set<ConnectStrategy> = []
    public var side = Side()

    public init() {}
  }

  public struct Answer: Hashable, Sendable {
    /// B takes no part at all.
    public var refusal: Refusal?
    /// B takes no part in these.
    public var declined: [ConnectStrategy: Refusal] = [:]
    public var side = Side()

    public init() {}
  }

  /// Why B takes no part.
  public enum Refusal: UInt8, Hashable, Sendable, CaseIterable {
    case noProtocol = 1
    /// `accept_cb` said no.
    case notAllowed = 2
    /// It dials for others already as much as it may.
    case busy = 3
    /// It was told not to use the strategy.
    case off = 4
    case closing = 5
    /// A reason this version does not know.
    case other = 255

    public var words: String {
      switch self {
      case .noProtocol: "it does not host this protocol"
      case .notAllowed: "it does not allow this node to have it dial"
      case .busy: "it dials for others already as much as it may"
      case .off: "it does not use this strategy"
      case .closing: "it is about to end"
      case .other: "it refuses, for a reason this version does not know"
      }
    }
  }

  /// The most of each that is told, and read. All of it together fits one signal.
  public static let mostPaths = 16
  public static let mostRelays = 4
  public static let mostAttempts = 20
  /// Bytes of UTF-8 of what an attempt saw.
  public static let longestWords = 120
  public static let longestProtocol = 64
  /// Bytes of an address's text.
  public static let longestAddress = 1024
  /// Bytes of the longest message: what a sealed signal carries at least.
  public static let longest = 3_800
}

extension Rendezvous.Side {
  /// Where packets of this side come from, as a relay sees them.
  public var outside: [IPAddress] {
    let seen = paths.compactMap(\.external?.ip) + (punch?.paths.flatMap(\.endpoints).map(\.ip) ?? [])
    let own = paths.map(\.local.ip).filter { !$0.isPrivate && $0.canBeDialled }
    var known: Set<IPAddress> = []
    return (seen + own).filter { known.insert($0).inserted }
  }
}
