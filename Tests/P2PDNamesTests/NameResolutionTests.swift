import NIOCore
import P2PDNet
import Testing

@testable import P2PDNames

@Suite struct NameResolutionTests {
  private let name: PeerName

  init() throws { name = try PeerName("example.peer") }
  private let key = [UInt8](repeating: 1, count: 32)
  private let other = [UInt8](repeating: 2, count: 32)
  private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

  private func resolution(
    _ sources: Set<LookupSource> = Set(LookupSource.allCases), expected: [UInt8]? = nil, all: Bool = false
  ) -> NameResolution {
    NameResolution(
      name, sources: sources, expected: expected.map { ($0, "remembered at its first use") }, all: all, at: start)
  }

  private func found(_ source: LookupSource, _ key: [UInt8], _ address: String? = "p2pd1") -> NameResolution.Event {
    .said(NameFinding(source, .found(key: key, address: address), by: "somebody"))
  }
  private func absent(_ source: LookupSource) -> NameResolution.Event { .said(NameFinding(source, .absent)) }
  private func winner(_ resolution: NameResolution) -> LookupSource? { (try? resolution.result?.get())?.source }
  private func error(_ resolution: NameResolution) -> NetError? {
    if case .failure(let error)? = resolution.result { error } else { nil }
  }

  @Test("the file decides at once")
  func file() {
    var one = resolution()
    #expect(one.handle(found(.file, key), now: start) == [.done])
    #expect(winner(one) == .file)
  }

  @Test("the order decides and not who is faster, but the local network only for a moment")
  func order() {
    var one = resolution()
    #expect(one.handle(absent(.file), now: start) == [.wake(start + NameResolution.lanTime)])
    #expect(one.handle(found(.dns, key), now: start) == [])
    #expect(one.handle(found(.servers, key), now: start) == [])
    #expect(one.result == nil)
    var late = one
    #expect(one.handle(found(.lan, key), now: start) == [.done])
    #expect(winner(one) == .lan)
    #expect(late.handle(.tick, now: start + NameResolution.lanTime) == [.done])
    #expect(winner(late) == .servers)
    // Who else is there is waited for.
    var slow = resolution([.lan, .servers])
    _ = slow.handle(absent(.servers), now: start)
    #expect(slow.handle(.tick, now: start + .seconds(1)) == [])
    #expect(slow.handle(found(.lan, key), now: start + .seconds(2)) == [.done])
    #expect(winner(slow) == .lan)
  }

  @Test("another key than the known one is passed over for the known one, and else an error that shows both")
  func pinned() {
    var one = resolution([.lan, .servers], expected: key)
    #expect(one.handle(found(.lan, other), now: start) == [])
    var two = one
    #expect(one.handle(found(.servers, key), now: start) == [.done])
    #expect(winner(one) == .servers)
    #expect(two.handle(absent(.servers), now: start) == [.done])
    let changed = error(two)
    #expect(changed?.code == .keyChanged)
    #expect(
      changed?.cause.contains(Base32.encode(key)) == true && changed?.cause.contains(Base32.encode(other)) == true)
    #expect(changed?.remedy.contains("names forget example.peer") == true)
    // A key in the file, and another one elsewhere.
    var three = resolution([.file, .servers], expected: key)
    #expect(three.handle(found(.file, key, nil), now: start) == [])
    #expect(three.handle(found(.servers, other), now: start) == [.done])
    #expect(error(three)?.remedy.contains("names file") == true)
  }

  @Test("why nobody knows it: the worst failure's code, and what each source said")
  func failures() {
    var one = resolution([.file, .lan, .servers])
    _ = one.handle(absent(.file), now: start)
    _ = one.handle(absent(.lan), now: start)
    var two = one
    #expect(one.handle(absent(.servers), now: start) == [.done])
    #expect(error(one)?.code == .notFound && error(one)?.attempts.count == 3)
    let none = NetError(.noQuorum, "look up", cause: "1 of 3 answered")
    #expect(two.handle(.said(NameFinding(.servers, .failed(none))), now: start) == [.done])
    #expect(error(two)?.code == .noQuorum && error(two)?.cause == "1 of 3 answered")
    var three = resolution([.servers])
    let why = NameFinding(.servers, .notAsked("no servers are configured for .peer"))
    #expect(three.handle(.said(why), now: start) == [.done])
    #expect(error(three)?.remedy.contains("P2PD_NAMES") == true)
  }

  @Test("who wants every answer waits for all, and the order still decides")
  func all() {
    var one = resolution([.file, .lan, .servers], all: true)
    #expect(one.handle(found(.file, key), now: start) == [.wake(start + NameResolution.lanTime)])
    #expect(winner(one) == .file)
    #expect(one.handle(found(.servers, key), now: start) == [])
    // Twice, or of a source that was not asked: as if it had not been said.
    #expect(one.handle(found(.servers, other), now: start) == [])
    #expect(one.handle(found(.dns, other), now: start) == [])
    #expect(one.handle(absent(.lan), now: start) == [.done])
    #expect(one.findings.map(\.source) == [.file, .lan, .servers])
  }
}
