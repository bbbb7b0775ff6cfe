const n={id:"org_1",name:"root"};function a(r,o,t){return r===n.id&&o===n.name?t("organizations.root"):o}export{a as o};
