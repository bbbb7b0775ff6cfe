import{C as r,z as u}from"./refusal-BKtVzr6Q.js";function a(e,s){return r(u,e)}export{a as u};
