BEGIN TRANSACTION;
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	partner VARCHAR(64) NOT NULL, 
	actor VARCHAR(100) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	target VARCHAR(200) NOT NULL, 
	outcome VARCHAR(100) NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,1800000000.0,'operator','operator','partner added','acme','ok','');
INSERT INTO "audit" VALUES(2,1800000000.0,'operator','operator','token added','acme/813aebee5aeadef6','ok','');
INSERT INTO "audit" VALUES(3,1800000060.0,'acme','acme/token 813aebee5aeadef6','submission created','s3t7fdhodzo2uxkl63ubo3dcn','ok','127.0.0.1');
INSERT INTO "audit" VALUES(4,1800000125.0,'acme','acme/token 813aebee5aeadef6','submission created','skpi7waunitcik3qpb4ogq2yn','ok','127.0.0.1');
INSERT INTO "audit" VALUES(5,1800000190.0,'acme','acme/token 813aebee5aeadef6','submission created','sslx44ij7sjitm3pft4pdgq2q','ok','127.0.0.1');
INSERT INTO "audit" VALUES(6,1800000252.0,'acme','acme/token 813aebee5aeadef6','submission created','szkxhaj6tczvuqnqekhs7zrd6','ok','127.0.0.1');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	submission VARCHAR(40) NOT NULL, 
	at FLOAT NOT NULL, 
	from_state VARCHAR(16), 
	to_state VARCHAR(16) NOT NULL, 
	actor VARCHAR(100) NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(submission) REFERENCES submissions (id)
);
INSERT INTO "events" VALUES(1,'s3t7fdhodzo2uxkl63ubo3dcn',1800000060.0,NULL,'uploading','acme/token 813aebee5aeadef6','');
INSERT INTO "events" VALUES(2,'s3t7fdhodzo2uxkl63ubo3dcn',1800000061.0,'uploading','received','linepress','now received');
INSERT INTO "events" VALUES(3,'s3t7fdhodzo2uxkl63ubo3dcn',1800000062.0,'received','checked','linepress','now checked');
INSERT INTO "events" VALUES(4,'s3t7fdhodzo2uxkl63ubo3dcn',1800000063.0,'checked','queued','linepress','now queued');
INSERT INTO "events" VALUES(5,'s3t7fdhodzo2uxkl63ubo3dcn',1800000064.0,'queued','running','linepress','now running');
INSERT INTO "events" VALUES(6,'s3t7fdhodzo2uxkl63ubo3dcn',1800000065.0,'running','validated','linepress','now validated');
INSERT INTO "events" VALUES(7,'skpi7waunitcik3qpb4ogq2yn',1800000125.0,NULL,'uploading','acme/token 813aebee5aeadef6','');
INSERT INTO "events" VALUES(8,'skpi7waunitcik3qpb4ogq2yn',1800000126.0,'uploading','received','linepress','now received');
INSERT INTO "events" VALUES(9,'skpi7waunitcik3qpb4ogq2yn',1800000127.0,'received','checked','linepress','now checked');
INSERT INTO "events" VALUES(10,'skpi7waunitcik3qpb4ogq2yn',1800000128.0,'checked','queued','linepress','now queued');
INSERT INTO "events" VALUES(11,'skpi7waunitcik3qpb4ogq2yn',1800000129.0,'queued','running','linepress','now running');
INSERT INTO "events" VALUES(12,'skpi7waunitcik3qpb4ogq2yn',1800000130.0,'running','validated','linepress','now validated');
INSERT INTO "events" VALUES(13,'sslx44ij7sjitm3pft4pdgq2q',1800000190.0,NULL,'uploading','acme/token 813aebee5aeadef6','');
INSERT INTO "events" VALUES(14,'sslx44ij7sjitm3pft4pdgq2q',1800000191.0,'uploading','received','linepress','now received');
INSERT INTO "events" VALUES(15,'sslx44ij7sjitm3pft4pdgq2q',1800000192.0,'received','rejected','linepress','now rejected');
INSERT INTO "events" VALUES(16,'szkxhaj6tczvuqnqekhs7zrd6',1800000252.0,NULL,'uploading','acme/token 813aebee5aeadef6','');
CREATE TABLE files (
	submission VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	from_hub BOOLEAN NOT NULL, 
	"offset" BIGINT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	PRIMARY KEY (submission, number), 
	FOREIGN KEY(submission) REFERENCES submissions (id)
);
INSERT INTO "files" VALUES('s3t7fdhodzo2uxkl63ubo3dcn',0,'manifest.yaml',10,'0000000000000000000000000000000000000000000000000000000000000000',0,0,1800000060.0);
INSERT INTO "files" VALUES('s3t7fdhodzo2uxkl63ubo3dcn',1,'a.safetensors',100,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0,0,1800000060.0);
INSERT INTO "files" VALUES('skpi7waunitcik3qpb4ogq2yn',0,'manifest.yaml',10,'0000000000000000000000000000000000000000000000000000000000000000',0,0,1800000125.0);
INSERT INTO "files" VALUES('skpi7waunitcik3qpb4ogq2yn',1,'a.safetensors',100,'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',0,0,1800000125.0);
INSERT INTO "files" VALUES('sslx44ij7sjitm3pft4pdgq2q',0,'manifest.yaml',10,'0000000000000000000000000000000000000000000000000000000000000000',0,0,1800000190.0);
INSERT INTO "files" VALUES('sslx44ij7sjitm3pft4pdgq2q',1,'a.safetensors',100,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc',0,0,1800000190.0);
INSERT INTO "files" VALUES('szkxhaj6tczvuqnqekhs7zrd6',0,'manifest.yaml',10,'0000000000000000000000000000000000000000000000000000000000000000',0,0,1800000252.0);
INSERT INTO "files" VALUES('szkxhaj6tczvuqnqekhs7zrd6',1,'a.safetensors',100,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd',0,0,1800000252.0);
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','1');
CREATE TABLE partners (
	id VARCHAR(64) NOT NULL, 
	contact VARCHAR(320) NOT NULL, 
	quota_bytes BIGINT NOT NULL, 
	requests_per_s FLOAT, 
	burst INTEGER, 
	created_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	PRIMARY KEY (id)
);
INSERT INTO "partners" VALUES('acme','lab@acme.example',1099511627776,NULL,NULL,1800000000.0,NULL);
CREATE TABLE sessions (
	digest VARCHAR(64) NOT NULL, 
	token VARCHAR(32) NOT NULL, 
	expires_at FLOAT NOT NULL, 
	PRIMARY KEY (digest), 
	FOREIGN KEY(token) REFERENCES tokens (id)
);
CREATE TABLE submissions (
	id VARCHAR(40) NOT NULL, 
	partner VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	suite VARCHAR(100) NOT NULL, 
	memories TEXT NOT NULL, 
	accelerators TEXT NOT NULL, 
	hub_uri VARCHAR(300), 
	hub_revision VARCHAR(40), 
	publish BOOLEAN NOT NULL, 
	idempotency_key VARCHAR(128), 
	request_sha256 VARCHAR(64) NOT NULL, 
	total_bytes BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	attempts INTEGER NOT NULL, 
	lease_owner VARCHAR(200), 
	lease_until FLOAT, 
	files_gone_at FLOAT, 
	data_format VARCHAR(32), 
	packed_ratio FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (partner, idempotency_key), 
	FOREIGN KEY(partner) REFERENCES partners (id)
);
INSERT INTO "submissions" VALUES('s3t7fdhodzo2uxkl63ubo3dcn','acme','tiny','smoke','[]','[]',NULL,NULL,0,'key-tiny-a','3153a72e7576b97800bbf15cef2d8daa2af63aa763f2254e0ed0f8952d48668f',110,'validated','now validated',1800000060.0,1800000065.0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "submissions" VALUES('skpi7waunitcik3qpb4ogq2yn','acme','tiny','smoke','[]','[]',NULL,NULL,0,'key-tiny-b','aca5df4885f3181b89169b428feed24eb2d443fba1d6533da7acc3248bb0b1d7',110,'validated','now validated',1800000125.0,1800000130.0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "submissions" VALUES('sslx44ij7sjitm3pft4pdgq2q','acme','other','smoke','[]','[]',NULL,NULL,0,'key-other-c','9334d4fe133eae8d4391837188171b041f354c4055b1edfb9a02d490b77c7a8c',110,'rejected','now rejected',1800000190.0,1800000192.0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "submissions" VALUES('szkxhaj6tczvuqnqekhs7zrd6','acme','open','smoke','[]','[]',NULL,NULL,0,'key-open-d','088a8382694318b3ecc195f7f9b553d3db318384aa894c9b11ba511380351dc9',110,'uploading','',1800000252.0,1800000252.0,0,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE tokens (
	id VARCHAR(32) NOT NULL, 
	partner VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	scopes VARCHAR(200) NOT NULL, 
	label VARCHAR(100) NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT, 
	revoked_at FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(partner) REFERENCES partners (id)
);
INSERT INTO "tokens" VALUES('813aebee5aeadef6','acme','376980849e3f96befb50b8bc1cc9f4b99c42d6a11f16453d92565b1c99c61e0a','delete read submit','',1800000000.0,NULL,NULL);
CREATE TABLE waivers (
	id VARCHAR(64) NOT NULL, 
	partner VARCHAR(64) NOT NULL, 
	rule VARCHAR(8) NOT NULL, 
	reason TEXT NOT NULL, 
	granted_by VARCHAR(100) NOT NULL, 
	granted_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(partner) REFERENCES partners (id)
);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_tokens_partner ON tokens (partner);
CREATE INDEX submissions_by_partner ON submissions (partner, created_at, id);
CREATE INDEX submissions_by_rank ON submissions (suite, data_format, state, packed_ratio);
CREATE INDEX submissions_by_state ON submissions (state, created_at);
CREATE INDEX ix_waivers_partner ON waivers (partner);
CREATE INDEX ix_events_submission ON events (submission);
COMMIT;
