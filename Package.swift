// swift-tools-version:6.2
import PackageDescription

/// Every target of ours: Swift 6 mode, warnings are errors.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
]

/// What tests of anything with sockets use.
let nioTests: [Target.Dependency] = [
  .product(name: "NIOCore", package: "swift-nio"),
  .product(name: "NIOPosix", package: "swift-nio"),
  .product(name: "NIOEmbedded", package: "swift-nio"),
  .product(name: "NIOSSL", package: "swift-nio-ssl"),
  .product(name: "Logging", package: "swift-log"),
]

let package = Package(
  name: "p2pd-lua",
  products: [
    .executable(name: "p2pd-lua", targets: ["p2pd-lua"]),
    .library(name: "P2PD", targets: ["P2PDNet", "P2PDNode"]),
    .library(name: "P2PDLua", targets: ["LuaVM", "P2PDScript"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.0"),
    .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.0"),
    .package(url: "https://github.com/apple/swift-certificates.git", from: "1.21.0"),
    .package(url: "https://github.com/apple/swift-asn1.git", from: "1.7.0"),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
    .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
  ],
  targets: [
    .target(
      name: "CLua", path: "CLua", publicHeadersPath: "include",
      cSettings: [.treatAllWarnings(as: .error), .enableWarning("all")],
      linkerSettings: [.linkedLibrary("lua5.4")]),
    .target(name: "CNet", path: "Sources/CNet"),
    .target(
      name: "P2PDNet",
      dependencies: [
        "CNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ], swiftSettings: strict),
    .target(
      name: "P2PDTraversal",
      dependencies: [
        "P2PDNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Crypto", package: "swift-crypto"),
      ], swiftSettings: strict),
    .target(
      name: "P2PDNames",
      dependencies: [
        "P2PDNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .target(
      name: "P2PDNode",
      dependencies: [
        "P2PDTraversal", "P2PDSignaling", "P2PDNames", "P2PDNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .target(
      name: "P2PDSignaling",
      dependencies: [
        "P2PDNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .target(
      name: "P2PDNameServer",
      dependencies: [
        "P2PDNames", "P2PDNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .target(name: "LuaVM", dependencies: ["CLua"], swiftSettings: strict),
    .target(
      name: "P2PDScript",
      dependencies: [
        "LuaVM", "P2PDNode", "P2PDTraversal", "P2PDNames", "P2PDNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .executableTarget(
      name: "p2pd-lua",
      dependencies: [
        "P2PDScript", "P2PDNode", "P2PDTraversal", "P2PDSignaling", "P2PDNameServer", "P2PDNames", "P2PDNet", "CNet",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: strict),
    .executableTarget(
      name: "p2pd-example",
      dependencies: [
        "P2PDNode", "P2PDNet", .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Example", swiftSettings: strict),
    .executableTarget(
      name: "p2pd-signal-node",
      dependencies: [
        "P2PDSignaling", "P2PDNet", .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "scripts/dev/benchmarks/signal-node", swiftSettings: strict),
    .executableTarget(
      name: "p2pd-punch-node",
      dependencies: ["P2PDTraversal", "P2PDNet", .product(name: "NIOCore", package: "swift-nio")],
      path: "scripts/dev/punch-node", swiftSettings: strict),
    .testTarget(name: "LuaVMTests", dependencies: ["LuaVM", "CLua"], swiftSettings: strict),
    .testTarget(name: "P2PDNetTests", dependencies: ["P2PDNet", "CNet"] + nioTests, swiftSettings: strict),
    .target(name: "ServerKit", path: "Tests/ServerKit", swiftSettings: strict),
    .testTarget(
      name: "P2PDTraversalTests", dependencies: ["P2PDTraversal", "P2PDNet", "ServerKit"] + nioTests,
      swiftSettings: strict),
    .testTarget(
      name: "P2PDNameServerTests",
      dependencies: [
        "P2PDNameServer", "P2PDNames", "P2PDNet", .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ] + nioTests,
      swiftSettings: strict),
    .testTarget(
      name: "P2PDNamesTests",
      dependencies: ["P2PDNames", "P2PDNet", .product(name: "Crypto", package: "swift-crypto")] + nioTests,
      swiftSettings: strict),
    .testTarget(
      name: "P2PDNodeTests",
      dependencies: [
        "P2PDNode", "P2PDTraversal", "P2PDSignaling", "P2PDNet", .product(name: "Crypto", package: "swift-crypto"),
      ] + nioTests,
      swiftSettings: strict),
    .testTarget(
      name: "P2PDSignalingTests",
      dependencies: ["P2PDSignaling", "P2PDNet", "ServerKit", .product(name: "Crypto", package: "swift-crypto")]
        + nioTests,
      swiftSettings: strict),
    .testTarget(
      name: "P2PDScriptTests", dependencies: ["P2PDScript", "LuaVM", "P2PDNode", "P2PDNet"] + nioTests,
      swiftSettings: strict),
    .testTarget(
      name: "CommandLineTests", dependencies: ["p2pd-lua"] + nioTests, path: "Tests/CommandLine", swiftSettings: strict),
    .testTarget(
      name: "ScenarioTests", dependencies: ["P2PDScript", "P2PDNode", "P2PDNet"] + nioTests, path: "Tests/Scenarios",
      swiftSettings: strict),
  ]
)
