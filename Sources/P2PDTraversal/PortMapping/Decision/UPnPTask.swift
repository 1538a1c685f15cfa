import NIOCore
import P2PDNet

/// How one port is opened with a UPnP gateway: which call follows on which answer. A value to be stepped by hand.
public struct UPnPTask: Sendable {
  public enum Step: Hashable, Sendable {
    case call(SOAPCall)
    case granted(MappingLease.Grant)
    /// And whether asking again soon is in vain.
    case refused(String, isFinal: Bool)
  }

  private let service: UPnPService
  private let want: MappingLease.Want
  /// 1 to 65 535.
  private var port: UInt16
  private var lease = MappingLease.lifetime
  private var isAny: Bool
  private var outside: IPAddress?
  private var calls = 0
  private let draw: @Sendable () -> UInt16

  /// - Parameters:
  ///   - port: the outside port to ask for.
  ///   - draw: another port, by chance.
  public init(
    _ service: UPnPService, _ want: MappingLease.Want, port: UInt16,
    draw: @escaping @Sendable () -> UInt16 = { .random(in: UPnPTask.others) }
  ) {
    self.service = service
    self.want = want
    self.port = port == 0 ? want.port : port
    self.draw = draw
    isAny = service.version >= 2 && service.kind == .ip
  }

  public mutating func start() -> Step {
    service.kind == .firewall ? hole() : call("GetExternalIPAddress")
  }

  /// The answer to the last call. nil: none came, or none that can be read.
  public mutating func handle(_ answer: SOAPAnswer?) -> Step {
    switch answer {
    case nil: return .refused("the router's UPnP service does not answer", isFinal: false)
    case .failed(let fault): return failed(fault)
    case .done(let values):
      if service.kind == .firewall { return opened(values) }
      if outside == nil { return located(values) }
      return mapped(values)
    }
  }

  /// The call that takes it away again.
  public static func removal(_ grant: MappingLease.Grant, _ want: MappingLease.Want, _ service: UPnPService) -> SOAPCall
  {
    if service.kind == .firewall {
      return SOAPCall(service, "DeletePinhole", ["UniqueID": "\(grant.pinhole ?? 0)"])
    }
    return SOAPCall(
      service, "DeletePortMapping",
      ["NewRemoteHost": "", "NewExternalPort": "\(grant.external.port)", "NewProtocol": name(want.transport)])
  }

  private static func name(_ transport: PipeProto) -> String { transport == .tcp ? "TCP" : "UDP" }

  private mutating func call(_ action: String, _ arguments: KeyValuePairs<String, String> = [:]) -> Step {
    calls += 1
    guard calls <= Self.mostCalls else { return .refused("the router refuses one port after another", isFinal: true) }
    return .call(SOAPCall(service, action, arguments))
  }

  // MARK: Mappings

  private mutating func located(_ values: [String: String]) -> Step {
    guard let ip = values["NewExternalIPAddress"].flatMap({ IPAddress($0) }), ip.family == .v4, !ip.isWildcard else {
      return .refused("the router has no outside address just now", isFinal: false)
    }
    outside = ip
    return add()
  }

  private mutating func add() -> Step {
    call(
      isAny ? "AddAnyPortMapping" : "AddPortMapping",
      [
        "NewRemoteHost": "", "NewExternalPort": "\(port)", "NewProtocol": Self.name(want.transport),
        "NewInternalPort": "\(want.port)", "NewInternalClient": "\(want.local)", "NewEnabled": "1",
        "NewPortMappingDescription": "p2pd-lua", "NewLeaseDuration": "\(lease)",
      ])
  }

  private func mapped(_ values: [String: String]) -> Step {
    let given = isAny ? values["NewReservedPort"].flatMap { UInt16($0) } : port
    guard let outside, let given, given != 0 else {
      return .refused("the router's answer names no port", isFinal: true)
    }
    return .granted(
      .init(
        by: .upnp, external: Endpoint(ip: outside, port: given), lifetime: lease == 0 ? nil : .seconds(Int64(lease))))
  }

  private mutating func failed(_ fault: UPnPFault) -> Step {
    guard service.kind != .firewall, outside != nil else { return .refused(fault.words, isFinal: true) }
    switch fault.code {
    case 725 where lease != 0:
      lease = 0
      return add()
    // Routers of version 1 say so in words of their own (a time is none of their values, the action failed).
    case 402 where lease != 0 && !isAny, 501 where lease != 0 && !isAny:
      lease = 0
      return add()
    case 401 where isAny, 402 where isAny, 501 where isAny, 602 where isAny:
      isAny = false
      return add()
    case 718, 729:
      // Who has it does not matter; another will do.
      port = draw()
      return add()
    case 724 where port != want.port:
      port = want.port
      return add()
    default: return .refused(fault.words, isFinal: true)
    }
  }

  // MARK: Holes

  private mutating func hole() -> Step {
    call(
      "AddPinhole",
      [
        "RemoteHost": "", "RemotePort": "0", "InternalClient": "\(want.local)", "InternalPort": "\(want.port)",
        "Protocol": want.transport == .tcp ? "6" : "17", "LeaseTime": "\(lease)",
      ])
  }

  private func opened(_ values: [String: String]) -> Step {
    guard let id = values["UniqueID"].flatMap({ UInt16($0) }) else {
      return .refused("the router's answer names no hole", isFinal: true)
    }
    return .granted(
      .init(
        by: .upnp, external: Endpoint(ip: want.local, port: want.port), lifetime: .seconds(Int64(lease)), pinhole: id))
  }

  /// Unprivileged (version 2 gives no others), and not those that systems choose by themselves.
  public static let others: ClosedRange<UInt16> = 10_000...32_767
  private static let mostCalls = 8
}
