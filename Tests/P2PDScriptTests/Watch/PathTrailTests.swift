import Glibc
import Testing

@testable import P2PDScript

@Suite("The way to a file")
struct PathTrailTests {
  private typealias Place = PathTrail.Place
  private let tree: [String: PathTrail.Entry] = [
    "/srv": .folder, "/srv/app": .folder, "/srv/app/x.lua": .file, "/srv/link": .link("app/x.lua"),
    "/srv/current": .link("../srv/releases/live"), "/srv/releases": .folder, "/srv/releases/live": .link("/srv/v1"),
    "/srv/v1": .folder, "/srv/v1/x.lua": .file, "/srv/loop": .link("loop"), "/srv/dark": .folder,
    "/srv/dark/x.lua": .failed(EACCES),
  ]

  private func walk(_ path: String, from here: String = "/srv") -> PathTrail {
    PathTrail(path, from: here) { tree[$0] ?? .missing }
  }

  @Test("a plain file: its name, and the folders it lies in")
  func plain() {
    for path in ["/srv/app/x.lua", "app/x.lua", "./app//./x.lua", "releases/../app/x.lua"] {
      let trail = walk(path)
      #expect(trail.places == [Place(folder: "/srv/app", name: "x.lua")], "\(path)")
      #expect(trail.end == .file)
      #expect(trail.endPath == "/srv/app/x.lua")
      #expect(Set(trail.folders).subtracting(["/srv/releases"]) == ["/", "/srv", "/srv/app"])
    }
  }

  @Test("each link on the way is a place, and .. goes up from where the link led")
  func links() {
    let trail = walk("current/x.lua")
    let places = [
      Place(folder: "/srv", name: "current"), Place(folder: "/srv/releases", name: "live"),
      Place(folder: "/srv/v1", name: "x.lua"),
    ]
    #expect(trail.places == places)
    #expect(trail.end == .file)
    #expect(walk("current/../app/x.lua").endPath == "/srv/app/x.lua")
    #expect(walk("link").places == [Place(folder: "/srv", name: "link"), Place(folder: "/srv/app", name: "x.lua")])
    #expect(walk("current").end == .folder)
    #expect(walk("current").endPath == "/srv/v1")
  }

  @Test("what is missing is waited for in the nearest folder that is there")
  func missing() {
    let trail = walk("app/sub/deep/x.lua")
    #expect(trail.end == .missing)
    #expect(trail.places == [Place(folder: "/srv/app", name: "sub")])
    #expect(walk("app/x.lua/y").end == .failed(ENOTDIR))
    #expect(walk("dark/x.lua").end == .failed(EACCES))
    #expect(walk("/").end == .folder)
    #expect(walk("../../../srv/app/x.lua").end == .file)
  }

  @Test("links in a circle end")
  func circle() {
    let trail = walk("loop/x.lua")
    #expect(trail.end == .failed(ELOOP))
    #expect(Set(trail.places) == [Place(folder: "/srv", name: "loop")])
  }
}
