// Starts `bslang lsp` for spec files; all else is the server's.

const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

function activate() {
  const command = workspace.getConfiguration("bslang").get("command");
  const server = { command, args: ["lsp"] };
  const options = { documentSelector: [{ language: "bslang" }] };
  client = new LanguageClient("bslang", "bslang", server, options);
  return client.start();
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
