// A PLC by node-opcua: an OPC UA server with the variables that it is told, and eyes and hands for the test.
//
// Arguments: one JSON object {port, variables: [{id, type, length}], user, certificates, tokenLifetime}. It prints one line "ready", then
// answers each line on its standard input, {read: id} or {write: id, value}, by one line with the value.
"use strict";
const path = require("path");
const readline = require("readline");
const opcua = require("node-opcua");

console.log = console.warn = console.error; // standard output is for answers alone
const answer = (line) => process.stdout.write(`${line}\n`);

const options = JSON.parse(process.argv[2]);

function value(variable) {
  const dataType = opcua.DataType[variable.type];
  if (!variable.length) return { dataType, value: 0 };
  return { dataType, arrayType: opcua.VariantArrayType.Array, value: new Uint16Array(variable.length) };
}

async function serve() {
  const secured = options.certificates !== undefined;
  const certificates = secured
    ? {
        serverCertificateManager: new opcua.OPCUACertificateManager({
          rootFolder: path.join(process.env.XDG_CONFIG_HOME, "secured"),
          automaticallyAcceptUnknownCertificate: true,
        }),
        certificateFile: path.join(options.certificates, "plc.pem"),
        privateKeyFile: path.join(options.certificates, "plc.key"),
      }
    : {};
  const server = new opcua.OPCUAServer({
    port: options.port,
    hostname: "127.0.0.1",
    ...certificates,
    allowAnonymous: options.user === undefined,
    securityModes: [secured ? opcua.MessageSecurityMode.SignAndEncrypt : opcua.MessageSecurityMode.None],
    securityPolicies: [secured ? opcua.SecurityPolicy.Basic256Sha256 : opcua.SecurityPolicy.None],
    userManager: {
      isValidUser: (user, password) => options.user && user === options.user[0] && password === options.user[1],
    },
    ...(options.tokenLifetime ? { defaultSecureTokenLifetime: options.tokenLifetime } : {}),
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  space.registerNamespace("urn:andon:test:plc");
  const folder = space.getOwnNamespace().addFolder(space.rootFolder.objects, { browseName: "PLC" });
  const namespace = space.getNamespace("urn:andon:test:plc");
  for (const variable of options.variables) {
    namespace.addVariable({
      organizedBy: folder,
      nodeId: variable.id,
      browseName: variable.id,
      dataType: variable.type,
      valueRank: variable.length ? 1 : -1,
      arrayDimensions: variable.length ? [variable.length] : null,
      value: value(variable),
    });
  }
  await server.start();
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const asked = JSON.parse(line);
    const node = space.findNode(asked.read || asked.write);
    if (asked.write) {
      const { dataType, arrayType } = node.readValue().value;
      const written = arrayType === opcua.VariantArrayType.Array ? Uint16Array.from(asked.value) : asked.value;
      node.setValueFromSource({ dataType, arrayType, value: written });
    }
    const held = node.readValue().value.value;
    answer(JSON.stringify(typeof held === "number" ? held : Array.from(held)));
  }).on("close", () => process.exit(0));
  answer("ready");
}

serve().catch((error) => {
  console.error(error);
  process.exit(1);
});
